#!/usr/bin/env bash
# Runs integration tests in a later Debian suite, whose tools know PostgreSQL 18: tests/integration/tools.test.ts
# takes the major that the distribution's tools are for. Needs root, debootstrap, and a built dist/zenith.
#
#   scripts/later_debian.sh SUITE FOLDER TEST [NAME=VALUE…]      scripts/later_debian.sh sid /var/tmp/sid tools
#
# The first run fills FOLDER (600 MB), which later ones use. Variables such as ZENITH_TEST_STORAGE=eager go to the tests.
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -ge 3 ] || { sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2; }
suite=$1 folder=$2 test=$3
shift 3

if [ ! -e "$folder/usr/bin/pgbackrest" ]; then
  packages=postgresql-18,postgresql-client-18,postgresql-18-cron,postgresql-18-wal2json
  debootstrap --variant=minbase "--include=$packages,pgbackrest,barman,pgbouncer,nodejs,fuse3,procps" "$suite" "$folder"
fi

# A mount namespace of its own: however this ends, nothing stays mounted in the folder.
export suite folder test
exec unshare --mount --propagation private bash -euo pipefail -c '
  for directory in proc sys dev; do mount --rbind "/$directory" "$folder/$directory"; done
  mkdir -p "$folder/$PWD"
  mount --bind "$PWD" "$folder/$PWD"
  exec chroot "$folder" /usr/bin/env -i HOME=/root LANG=C.UTF-8 \
    PATH="$PWD/node_modules/.bin:/usr/sbin:/usr/bin:/sbin:/bin" ZENITH_BIN="$PWD/dist/zenith" "$@" \
    sh -c "cd \"$PWD\" && exec bun test --timeout 240000 ./tests/integration/$test.test.ts"
' sh "$@"
