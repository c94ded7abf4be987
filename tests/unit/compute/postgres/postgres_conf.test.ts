import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { parseTenantId, parseTimelineId } from "../../../../src/common/id.ts";
import { ComputePaths } from "../../../../src/common/paths.ts";
import {
  assertUsable,
  clientHost,
  computeIdentity,
  forcedSettings,
  initialComputeConf,
  initialPostgresConf,
  ownSettings,
  parseSettings,
  readComputeConf,
  readSettings,
  separateComputeConf,
} from "../../../../src/compute/postgres/postgres_conf.ts";

const COMPUTE = {
  tenant: parseTenantId("11223344556677889900aabbccddeeff"),
  timeline: parseTimelineId("ffeeddccbbaa00998877665544332211"),
  pageServer: { host: "127.0.0.1", port: 64000 },
  walAcceptors: [],
  port: 55432,
};

describe("a compute's configuration", () => {
  test("says who the compute is, and is read back as that", () => {
    const settings = parseSettings(initialComputeConf(COMPUTE, "/run/zenith", "127.0.0.1"));
    assert.deepEqual(computeIdentity(settings, "postgresql.conf"), COMPUTE);
  });

  test("keeps what is ours out of the user's file, and on the command line", () => {
    assert.deepEqual([...parseSettings(initialPostgresConf()).keys()], ["timezone", "log_timezone"]);
    const own = ownSettings(parseSettings(initialComputeConf(COMPUTE, "/run/zenith", "127.0.0.1")));
    assert.equal(own["port"], "55432");
    assert.equal(own["zenith.zenith_tenant"], COMPUTE.tenant);
    assert.equal(forcedSettings(15)["fsync"], "off");
    assert.equal(forcedSettings(15)["full_page_writes"], "off");
  });

  test("of an older compute, in one file, is parted at its next start, and says the same", () => {
    const directory = mkdtempSync(join(tmpdir(), "zenith-conf-"));
    try {
      const paths = new ComputePaths(directory);
      mkdirSync(paths.pgdata);
      const conf = join(paths.pgdata, "postgresql.conf");
      const user = "work_mem = '7MB' # mine\n";
      const former = initialComputeConf(COMPUTE, "/run/zenith", "127.0.0.1");
      writeFileSync(conf, `${former}fsync = off\nsynchronous_standby_names = 'pageserver'\n${user}`);
      assert.deepEqual(computeIdentity(readComputeConf(paths), conf), COMPUTE);
      separateComputeConf(paths, undefined);
      assert.deepEqual(computeIdentity(readComputeConf(paths), paths.config), COMPUTE);
      assert.deepEqual([...readSettings(paths.pgdata)], [["work_mem", "7MB"]]);
      separateComputeConf(paths, undefined);
      assert.match(readFileSync(conf, "utf8"), /^work_mem = '7MB' # mine$/m);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  test("names the safekeepers that it commits to", () => {
    const walAcceptors = [5454, 5455, 5456].map((port) => ({ host: "10.0.0.1", port }));
    const settings = parseSettings(
      initialComputeConf({ ...COMPUTE, walAcceptors }, "/run/zenith", "127.0.0.1"),
    );
    assert.equal(settings.get("zenith.wal_acceptors"), "10.0.0.1:5454,10.0.0.1:5455,10.0.0.1:5456");
    assert.deepEqual(computeIdentity(settings, "postgresql.conf").walAcceptors, walAcceptors);
  });

  test("refuses safekeepers that are no addresses, or one that is named twice", () => {
    const conf = initialComputeConf(COMPUTE, "/run/zenith", "127.0.0.1");
    for (const acceptors of ["localhost", "a:1, a:1"]) {
      const settings = parseSettings(`${conf}zenith.wal_acceptors = '${acceptors}'\n`);
      assert.throws(() => computeIdentity(settings, "postgresql.conf"), /zenith\.wal_acceptors is "/);
    }
  });

  test("has no Unix socket where the path would not fit", () => {
    const settings = parseSettings(initialComputeConf(COMPUTE, "/" + "d".repeat(100), "127.0.0.1"));
    assert.equal(settings.get("unix_socket_directories"), "");
  });

  test("the last line that sets something counts, quoted or not, with or without =", () => {
    const settings = parseSettings(
      "port = 1\nPort 2 # mine\n#port = 3\nsearch_path = 'a, ''b'''  # x\nshared_preload_libraries=''\n",
    );
    assert.equal(settings.get("port"), "2");
    assert.equal(settings.get("search_path"), "a, 'b'");
    assert.equal(settings.get("shared_preload_libraries"), "");
  });

  test("a missing tenant is named together with the file", () => {
    assert.throws(
      () => computeIdentity(parseSettings("port = 5432"), "/x/postgresql.conf"),
      /\/x\/postgresql\.conf does not set zenith\.zenith_tenant/,
    );
  });

  test("wal_level = minimal is refused", () => {
    const settings = parseSettings(initialPostgresConf() + "wal_level = minimal\n");
    assert.throws(() => assertUsable(settings, "postgresql.conf"), /wal_level/);
  });

  test("clients on this machine use the loopback address unless another one is named", () => {
    assert.equal(clientHost(parseSettings("listen_addresses = '*'")), "127.0.0.1");
    assert.equal(clientHost(parseSettings("")), "127.0.0.1");
    assert.equal(clientHost(parseSettings("listen_addresses = '10.0.0.1, 127.0.0.1'")), "10.0.0.1");
    assert.equal(clientHost(parseSettings("listen_addresses = ''")), undefined);
  });
});
