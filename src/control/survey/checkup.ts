/** Checks Zenith's requirements of a machine one by one, for `zenith doctor`. */
import { accessSync, constants, existsSync, readdirSync, readFileSync, statfsSync, statSync } from "node:fs";
import { arch, platform, release } from "node:os";
import { dirname } from "node:path";
import { errorMessage, systemErrorCode, ZenithError } from "../../common/errors.ts";
import { findProgram } from "../../process/find_program.ts";
import { formatHostPort, type HostPort, parseHostPort } from "../../common/host_port.ts";
import { generateTenantId, parseBranchName } from "../../common/id.ts";
import { PAGESERVER_DEFAULT_LISTEN } from "../../common/page_server_config.ts";
import { EnvironmentPaths } from "../../common/paths.ts";
import { checkPidFile } from "../../process/pid_file.ts";
import { whyNotLazy } from "../../compute/lazy/fuse/mount.ts";
import { readSettingsFiles } from "../../compute/postgres/settings_files.ts";
import { readTenantUid } from "../../compute/postgres/compute_user.ts";
import { fitsSocketPath } from "../../compute/postgres/postgres_conf.ts";
import { findAllPostgres, findNewestPostgres, findPsql } from "../../pg_install/find_postgres.ts";
import { assertReachable, type PgUser, pgUser } from "../../pg_install/pg_user.ts";
import { allComputePlaces } from "../compute_places.ts";
import { describeCompute } from "../computes.ts";
import {
  type Environment,
  environmentRoot,
  hasLocalPageServer,
  loadEnvironment,
  pageServerAddress,
} from "../environment.ts";
import { whyNotFree } from "../ports.ts";
import { listSafekeepers } from "../safekeepers.ts";
import { asksForTokens } from "../server_tokens.ts";
import { DISK_LOW_BYTES } from "./survey.ts";

/** `fail`: Zenith does not work here. `warn`: it works, but something is missing. */
export type Verdict = "ok" | "warn" | "fail";

export interface Finding {
  readonly check: string;
  readonly verdict: Verdict;
  readonly found: string;
  /** How to fix it; null when there is nothing to fix. */
  readonly fix: string | null;
}

const ok = (check: string, found: string): Finding => ({ check, verdict: "ok", found, fix: null });
const warn = (check: string, found: string, fix: string): Finding => ({ check, verdict: "warn", found, fix });
const fail = (check: string, found: string, fix: string): Finding => ({ check, verdict: "fail", found, fix });

/** Below this, not even an empty environment fits. */
const DISK_MIN_BYTES = 128 << 20;

/** A Postgres with its defaults, a page server and a safekeeper fit in this. */
const MEMORY_LOW_BYTES = 512 << 20;

/** Checks the machine and, where there is an environment, what that needs. */
export async function checkMachine(): Promise<Finding[]> {
  const root = environmentRoot();
  const { environment, finding } = openEnvironment(root);
  const { user, finding: userFinding } = checkUser();
  return [
    checkPlatform(),
    ...checkPostgres(environment, user),
    userFinding,
    finding,
    ...checkTenants(environment, user),
    ...checkPasswords(environment),
    ...checkDirectory(root, user),
    checkDisk(root),
    checkMemory(),
    checkSharedMemory(),
    ...checkTrust(environment),
    ...await checkPorts(environment),
    checkLazy(),
    checkSetpriv(),
    checkPsql(environment),
  ];
}

function checkPlatform(): Finding {
  const found = `${platform()} ${release()}, ${arch()}`;
  if (platform() === "linux" && existsSync("/proc/self/stat")) return ok("system", found);
  return fail("system", found, "Zenith needs Linux, with /proc mounted");
}

/** Returns a finding for each major version that is installed. */
function checkPostgres(environment: Environment | undefined, user: PgUser | undefined): Finding[] {
  const check = "PostgreSQL";
  try {
    const options = { distribDir: environment?.config.pg_distrib_dir };
    const newest = findNewestPostgres(options);
    return findAllPostgres(options).map(({ major, version, distribDir, binDir, source }) => {
      assertReachable(binDir, user);
      const newTenants = major === newest.major ? ", for new tenants" : "";
      return ok(`${check} ${major}`, `${version} in ${distribDir} (${source})${newTenants}`);
    });
  } catch (error) {
    return [failure(check, error, "install PostgreSQL, or set POSTGRES_DISTRIB_DIR")];
  }
}

function checkUser(): { user: PgUser | undefined; finding: Finding } {
  const check = "Postgres's user";
  try {
    const user = pgUser();
    const found = user === undefined
      ? `this one, uid ${process.getuid?.()}`
      : `${user.name}, uid ${user.uid}: PostgreSQL refuses to run as root`;
    return { user, finding: ok(check, found) };
  } catch (error) {
    return {
      user: undefined,
      finding: failure(check, error, "set ZENITH_PG_USER to an unprivileged user"),
    };
  }
}

function openEnvironment(root: string): { environment: Environment | undefined; finding: Finding } {
  const check = "environment";
  try {
    const environment = loadEnvironment(root);
    return { environment, finding: ok(check, environment.paths.root) };
  } catch (error) {
    const none = error instanceof ZenithError && error.kind === "not_found" &&
      (!existsSync(root) || readdirSync(root).length === 0);
    const finding = none
      ? ok(check, `none yet in ${root}: "zenith init" makes one`)
      : failure(check, error, "mend it, or choose another place with ZENITH_REPO_DIR");
    return { environment: undefined, finding };
  }
}

/** Whether the superuser of one tenant is kept from the files of another's. */
function checkTenants(environment: Environment | undefined, user: PgUser | undefined): Finding[] {
  if (environment === undefined) return [];
  const check = "tenants apart";
  const { paths, config } = environment;
  const tenants = new Set(allComputePlaces(environment).map(({ tenant }) => tenant));
  const shared = user === undefined
    ? [...tenants]
    : [...tenants].filter((tenant) => readTenantUid(paths.tenantUid(tenant)) === undefined);
  if (shared.length === 0 && config.tenant_uids !== undefined && user !== undefined) {
    return [ok(check, `each tenant's Postgres run as a user of its own, of ${config.tenant_uids}`)];
  }
  if (user === undefined) return [checkSuperuserReach(environment, tenants.size)];
  const name = `user ${user.name}`;
  const found = `every tenant's Postgres run as ${name}: the superuser of one reaches the files of all`;
  if (shared.length < 2 && tenants.size < 2) return [ok(check, found)];
  const some =
    `${shared.length} of ${tenants.size} tenants share ${name}: the superuser of one reaches the files of all`;
  return [
    config.tenant_uids === undefined
      ? warn(check, some, `set tenant_uids = "200000-209999" in ${paths.config}, and restart their Postgres`)
      : warn(check, some, "stop all Postgres of such a tenant at once: the next start gives it a user"),
  ];
}

/** Says what a tenant's superuser can reach when everything here runs as one user. */
function checkSuperuserReach({ paths }: Environment, tenants: number): Finding {
  const check = "tenants apart";
  const found = `not root, so every Postgres runs as uid ${process.getuid?.()}, as Zenith does: a tenant's ` +
    `superuser can read and change all in ${paths.root} (the pages and WAL of every tenant, passwords, the ` +
    "keys that sign tokens), stop all of its processes, and do what else that user may";
  if (tenants < 2) return ok(check, found);
  const fix = "run Zenith as root with tenant_uids, or hand out zenith_owner, which is no superuser";
  return warn(check, found, fix);
}

/** A rule of `pg_hba.conf` that asks for nothing. */
const TRUSTING_RULE = /^\s*(?:local|host\w*)\s.*\strust\s*(?:#.*)?$/m;

/** Finds computes that let connections in without a password, as those of earlier versions do. */
function checkPasswords(environment: Environment | undefined): Finding[] {
  if (environment === undefined) return [];
  const check = "passwords";
  const trusting = allComputePlaces(environment).filter(({ paths }) => {
    try {
      const hba = readSettingsFiles(paths.pgdata).get("pg_hba.conf");
      return hba !== undefined && TRUSTING_RULE.test(new TextDecoder().decode(hba));
    } catch {
      // It is being removed, or its data directory is damaged.
      return false;
    }
  });
  if (trusting.length === 0) return [ok(check, "every Postgres here asks for one")];
  const names = trusting.map(({ name }) => name).join(", ");
  return [warn(
    check,
    `the pg_hba.conf of ${names} trusts connections without one`,
    "write scram-sha-256 where it says trust",
  )];
}

/** File systems that don't survive a reboot, by their type numbers from statfs(2). */
const TRANSIENT_FILE_SYSTEMS = new Map([[0x01021994, "tmpfs"], [0x858458f6, "ramfs"]]);

function checkDirectory(root: string, user: PgUser | undefined): Finding[] {
  const check = "directory";
  const there = existingAncestor(root);
  const findings: Finding[] = [];
  try {
    if (!statSync(there).isDirectory()) {
      return [fail(check, `${there} is not a directory`, "choose another place with ZENITH_REPO_DIR")];
    }
    accessSync(there, constants.W_OK | constants.X_OK);
    assertReachable(there, user);
  } catch (error) {
    return [failure(check, error, `make ${there} writable, or choose another place with ZENITH_REPO_DIR`)];
  }
  const transient = TRANSIENT_FILE_SYSTEMS.get(statfsSync(there).type);
  if (transient !== undefined) {
    const fix = "good for trying out; for data that matter set ZENITH_REPO_DIR to a place on a disk";
    findings.push(warn(check, `${there} is on ${transient}: it is gone when the machine stops`, fix));
  } else {
    findings.push(ok(check, `${there} is writable${user === undefined ? "" : `, open to ${user.name}`}`));
  }
  const { socketDir } = new EnvironmentPaths(root).compute(generateTenantId(), parseBranchName("main"));
  if (!fitsSocketPath(socketDir)) {
    const fix = "connect by TCP, as is usual, or choose a shorter ZENITH_REPO_DIR";
    findings.push(warn("Unix sockets", `the path of ${root} is too long to have any below it`, fix));
  }
  return findings;
}

function existingAncestor(path: string): string {
  for (let dir = path;; dir = dirname(dir)) if (existsSync(dir)) return dir;
}

function checkDisk(root: string): Finding {
  const check = "disk space";
  const there = existingAncestor(root);
  const stat = statfsSync(there);
  const free = stat.bavail * stat.bsize;
  const found = `${mebibytes(free)} free at ${there}`;
  if (free < DISK_MIN_BYTES) {
    return fail(check, found, "make room, or choose another place with ZENITH_REPO_DIR");
  }
  if (free < DISK_LOW_BYTES) return warn(check, found, "make room: when it is full, commits wait");
  return ok(check, found);
}

function checkMemory(): Finding {
  const check = "memory";
  const match = /^MemAvailable:\s+(\d+) kB/m.exec(readFileSync("/proc/meminfo", "utf8"));
  if (match === null) return warn(check, "/proc/meminfo does not say", "look with free(1)");
  const available = Number(match[1]) * 1024;
  const found = `${mebibytes(available)} available`;
  if (available >= MEMORY_LOW_BYTES) return ok(check, found);
  return warn(check, found, "give the machine more, or Postgres a smaller shared_buffers");
}

/** Checks /dev/shm, where Postgres keeps the shared memory of parallel queries. */
function checkSharedMemory(): Finding {
  const check = "shared memory";
  const fix = "mount a tmpfs there (containers: --shm-size=256m), or set dynamic_shared_memory_type = mmap";
  try {
    accessSync("/dev/shm", constants.W_OK);
    const stat = statfsSync("/dev/shm");
    const free = stat.bavail * stat.bsize;
    const found = `${mebibytes(free)} free in /dev/shm`;
    return free < DISK_MIN_BYTES ? warn(check, found, fix) : ok(check, found);
  } catch (error) {
    return fail(check, `/dev/shm can't be used (${systemErrorCode(error) ?? errorMessage(error)})`, fix);
  }
}

/**
 * Checks that every port is free, or held by a server of this environment. The pid file tells
 * whether that server runs.
 */
/** Says whether the servers ask their clients who they are. */
function checkTrust(environment: Environment | undefined): Finding[] {
  if (environment === undefined || !hasLocalPageServer(environment)) return [];
  const check = "tokens";
  const { paths, config } = environment;
  if (asksForTokens(environment)) return [ok(check, `the servers trust the keys in ${paths.auth.trusted}`)];
  if (config.insecure === true) {
    const fix = `take insecure out of ${paths.config}, then "zenith stop" and "zenith start"`;
    return [warn(check, "insecure: everybody on this machine may do everything", fix)];
  }
  const fix = '"zenith stop", then "zenith start" makes keys and tokens';
  return [warn(check, "no keys: everybody on this machine may do everything", fix)];
}

async function checkPorts(environment: Environment | undefined): Promise<Finding[]> {
  const check = "ports";
  const wanted: { what: string; address: HostPort; ours: boolean; setting: string }[] = [];
  if (environment === undefined) {
    wanted.push({
      what: "the page server",
      address: parseHostPort(PAGESERVER_DEFAULT_LISTEN),
      ours: false,
      setting: '"zenith init --listen <host:port>"',
    });
  } else {
    const { paths } = environment;
    if (hasLocalPageServer(environment)) {
      wanted.push({
        what: "the page server",
        address: pageServerAddress(environment),
        ours: ["running", "elsewhere"].includes(checkPidFile(paths.pageserver.pidFile).state),
        setting: `pageserver.listen in ${paths.config}`,
      });
    }
    for (const { id, address, running } of listSafekeepers(environment)) {
      const setting = `listen of safekeeper ${id} in ${paths.config}`;
      wanted.push({ what: `safekeeper ${id}`, address, ours: running, setting });
    }
    for (const found of allComputePlaces(environment)) {
      const file = found.paths.config;
      try {
        const { address, name, status } = describeCompute(found);
        const what = `the Postgres of branch ${name}`;
        wanted.push({ what, address, ours: status === "running", setting: `port in ${file}` });
      } catch (error) {
        return [failure("configuration", error, `mend ${file}`)];
      }
    }
  }
  const taken: Finding[] = [];
  for (const { what, address, ours, setting } of wanted) {
    const why = ours ? undefined : await whyNotFree(address);
    if (why === undefined) continue;
    const found = `${formatHostPort(address)}, for ${what}, ${why}`;
    const verdict = environment === undefined ? warn : fail;
    taken.push(verdict(check, found, `stop that program, or choose another: ${setting}`));
  }
  const all = wanted.map(({ address }) => address.port).join(", ");
  return taken.length > 0 ? taken : [ok(check, `${all}: free, or ours`)];
}

function checkLazy(): Finding {
  const check = "lazy computes";
  const why = whyNotLazy();
  if (why === undefined) {
    return ok(check, "/dev/fuse can be used: computes fetch pages when they are touched");
  }
  const fix =
    "as it is, computes fetch all data at their start; docs/lazy_compute.md says what lazy ones need";
  return warn(check, `not possible: ${why}`, fix);
}

function checkSetpriv(): Finding {
  const check = "setpriv";
  const path = findProgram("setpriv");
  if (path !== undefined) return ok(check, path);
  const found = "not on the PATH: a Postgres whose supervisor is killed runs on until the next start";
  return warn(check, found, "install util-linux");
}

function checkPsql(environment: Environment | undefined): Finding {
  const check = "psql";
  const path = findProgram("psql") ?? besidePostgres(environment);
  if (path !== undefined) return ok(check, path);
  return warn(
    check,
    'none: "zenith psql" has nothing to run',
    "install postgresql-client, or use any client",
  );
}

function besidePostgres(environment: Environment | undefined): string | undefined {
  try {
    return findPsql({ distribDir: environment?.config.pg_distrib_dir });
  } catch {
    // Another check reports that there is no Postgres.
    return undefined;
  }
}

function failure(check: string, error: unknown, fix: string): Finding {
  return fail(check, errorMessage(error), (error instanceof ZenithError ? error.hint : undefined) ?? fix);
}

function mebibytes(bytes: number): string {
  return `${Math.floor(bytes / (1 << 20))} MiB`;
}
