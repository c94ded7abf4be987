/** The packages of a release: installed, used, upgraded and removed where nothing else is. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { arch, tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { gunzipSync } from "node:zlib";
import { makeDeb } from "../../scripts/release/deb.ts";
import { makeMainPackage, makePlatformPackage } from "../../scripts/release/npm.ts";
import { EnvironmentPaths } from "../../src/common/paths.ts";
import { isRunning, runningProcess } from "../../src/process/pid_file.ts";
import { BareDebian, lacksBareDebian } from "../harness/bare_debian.ts";
import { freePort } from "../harness/ports.ts";

const ROOT = join(import.meta.dirname, "..", "..");
const BUILT = join(ROOT, "dist", "zenith-with-postgres");

/** Two releases of the same executable: it is their packages that differ. */
const OLD = "0.0.9";
const NEW = "0.1.0";

let dir: string;
const options = (version: string) => ({
  version,
  arch: arch(),
  executable: BUILT,
  bill: `${BUILT}.cdx.json`,
  time: new Date("2026-11-30T12:00:00Z"),
  compression: 1,
  directory: dir,
});

before(() => {
  dir = mkdtempSync(join(tmpdir(), "zenith-packages-"));
  chmodSync(dir, 0o755);
  const build = ["run", "--silent", "build", "--", "--with-postgres"];
  const { status, stderr } = spawnSync("npm", build, { cwd: ROOT, encoding: "utf8" });
  assert.equal(status, 0, stderr);
});
after(() => rmSync(dir, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 }));

describe("the Debian package", { skip: lacksBareDebian() }, () => {
  const DATA = "/var/lib/zenith/env";
  const AS_ZENITH = [
    ...["runuser", "-u", "zenith", "--", "env", "-C", "/"],
    ...[`ZENITH_REPO_DIR=${DATA}`, "XDG_CACHE_HOME=/var/cache/zenith", "zenith"],
  ];
  let debian: BareDebian;
  const packages = new Map<string, string>();
  const zenith = (...args: string[]) => debian.run(...AS_ZENITH, ...args);
  const install = (version: string) => {
    const path = `/tmp/zenith-${version}.deb`;
    assert.equal(spawnSync("cp", [packages.get(version)!, debian.root + path]).status, 0);
    return debian.run("dpkg", "-i", path);
  };
  const inside = (path: string) => join(debian.root, path);
  const rows = () => zenith("sql", "main", "-c", "SELECT count(*) FROM t", "--csv").trim().split("\n").at(-1);

  before(async () => {
    debian = BareDebian.create();
    for (const version of [OLD, NEW]) packages.set(version, await makeDeb(options(version)));
  });
  after(() => {
    if (existsSync(inside(DATA)) && existsSync(inside("/usr/bin/zenith"))) zenith("stop", "-m", "immediate");
    debian[Symbol.dispose]();
  });

  test("has a user, units, completion and a manual page, and starts nothing", () => {
    install(OLD);
    assert.match(debian.run("id", "zenith"), /gid=\d+\(zenith\)/);
    for (const unit of ["zenith", "zenith-serve"]) {
      const text = readFileSync(inside(`/usr/lib/systemd/system/${unit}.service`), "utf8");
      assert.match(text, /^ExecStart=\/usr\/bin\/zenith /m);
      assert.match(text, /^ExecReload=\/usr\/bin\/zenith restart$/m);
      assert.doesNotMatch(text, /local\/bin/);
    }
    const man = gunzipSync(readFileSync(inside("/usr/share/man/man1/zenith.1.gz"))).toString();
    assert.match(man, /^\.B "zenith branch restore /m);
    const complete = "source /usr/share/bash-completion/completions/zenith; COMP_WORDS=(zenith pg sta); " +
      'COMP_CWORD=2; _zenith; echo "${COMPREPLY[@]}"';
    assert.match(debian.run("bash", "-c", complete), /^standby start\n$/);
    assert.ok(!existsSync(inside(DATA)));
  });

  test("makes a machine without PostgreSQL run one", async () => {
    zenith("init", "--listen", `127.0.0.1:${await freePort()}`);
    zenith("start");
    zenith("pg", "create", "main", "--port", String(await freePort()));
    zenith("pg", "start", "main");
    zenith("sql", "main", "-c", "CREATE TABLE t AS SELECT generate_series(1, 1000) n");
    assert.equal(rows(), "1000");
  });

  test("is upgraded while it runs: Postgres stays up, and the new servers go on from its data", () => {
    const said = install(NEW);
    assert.match(said, /what runs goes on as it was/);
    assert.match(debian.run("dpkg-query", "-W", "zenith"), new RegExp(NEW.replaceAll(".", "\\.")));
    const postgres = zenith("sql", "main", "-c", "SELECT pg_postmaster_start_time()", "--csv");
    zenith("restart");
    zenith("sql", "main", "-c", "INSERT INTO t VALUES (1001)");
    assert.equal(rows(), "1001");
    assert.equal(zenith("sql", "main", "-c", "SELECT pg_postmaster_start_time()", "--csv"), postgres);
  });

  test("stops what runs when it is removed, and keeps the data, which it finds when it is back", () => {
    const pageServer = runningProcess(new EnvironmentPaths(inside(DATA)).pageserver.pidFile);
    assert.ok(pageServer !== undefined);
    const said = debian.run("dpkg", "-r", "zenith");
    assert.match(said, /databases in \/var\/lib\/zenith, .* are kept/);
    assert.ok(!isRunning(pageServer));
    assert.ok(!existsSync(inside("/usr/bin/zenith")));
    assert.ok(existsSync(inside("/etc/default/zenith")));
    install(NEW);
    zenith("start");
    assert.equal(rows(), "1001");
  });

  test("keeps the data when it is purged, says so, and leaves nothing once they are gone", () => {
    const said = debian.run("dpkg", "-P", "zenith");
    assert.match(said, /to delete them: rm -r \/var\/lib\/zenith && userdel zenith/);
    assert.ok(existsSync(inside(`${DATA}/config`)));
    assert.ok(!existsSync(inside("/etc/default/zenith")));
    rmSync(inside("/var/lib/zenith"), { recursive: true });
    install(NEW);
    assert.doesNotMatch(debian.run("dpkg", "-P", "zenith"), /kept/);
    for (const path of ["/var/lib/zenith", "/var/cache/zenith", "/usr/share/doc/zenith"]) {
      assert.ok(!existsSync(inside(path)), path);
    }
    assert.throws(() => debian.run("id", "zenith"), /no such user/);
  });
});

describe("the npm packages", () => {
  let home: string;
  const tarballs = new Map<string, readonly string[]>();
  const run = (file: string, ...args: string[]) => {
    const { status, stdout, stderr } = spawnSync(file, args, {
      cwd: home,
      encoding: "utf8",
      env: {
        PATH: process.env["PATH"],
        HOME: home,
        XDG_CACHE_HOME: join(home, "cache"),
        npm_config_update_notifier: "false",
      },
    });
    assert.equal(status, 0, `${file} ${args.join(" ")}: ${status}\n${stdout}${stderr}`);
    return stdout;
  };
  const install = (version: string) =>
    run("npm", "install", "--offline", "--no-audit", "--no-fund", ...tarballs.get(version)!);
  const zenith = (...args: string[]) => run("npx", "--offline", "zenith", ...args);

  before(async () => {
    home = join(dir, "project");
    mkdirSync(home);
    for (const version of [OLD, NEW]) {
      const main = await makeMainPackage(options(version), ["x64", "arm64"]);
      tarballs.set(version, [main, await makePlatformPackage(options(version))]);
    }
  });
  after(() => {
    if (existsSync(join(home, "node_modules", "zenith"))) zenith("stop", "-m", "immediate");
  });

  test("bring a database by npx, without a registry", () => {
    install(OLD);
    assert.match(zenith("up"), /zenith psql|postgresql:\/\//);
    zenith("sql", "main", "-c", "CREATE TABLE t AS SELECT generate_series(1, 1000) n");
  });

  test("pass exit codes and signals on", () => {
    const zenith = join(home, "node_modules", ".bin", "zenith");
    assert.equal(spawnSync(zenith, ["branch", "get", "nowhere"], { cwd: home }).status, 4);
    const ended = spawnSync("timeout", ["-s", "TERM", "2", zenith, "logs", "pageserver", "-f"], {
      cwd: home,
    });
    assert.equal(ended.status, 124);
    const left = spawnSync("pgrep", ["-f", `${home}/node_modules/.*logs pageserver -f`], {
      encoding: "utf8",
    });
    assert.equal(left.stdout, "");
  });

  test("are updated while it runs, and leave the data when they are removed", () => {
    install(NEW);
    zenith("restart");
    const count = zenith("sql", "main", "-c", "SELECT count(*) FROM t", "--csv");
    assert.equal(count.trim().split("\n").at(-1), "1000");
    zenith("stop");
    run("npm", "uninstall", "--offline", "zenith", "@zenith-postgres/linux-" + arch());
    assert.ok(!existsSync(join(home, "node_modules", ".bin", "zenith")));
    assert.ok(existsSync(join(home, ".zenith", "config")));
  });
});
