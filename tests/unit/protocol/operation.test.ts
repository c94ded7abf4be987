import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { generateTenantId, generateTimelineId, parseBranchName } from "../../../src/common/id.ts";
import { lsn } from "../../../src/common/lsn.ts";
import { PAGE_SERVER, SAFEKEEPER } from "../../../src/protocol/management.ts";
import { formatCommand, parseArgs, plainArgs, usage } from "../../../src/protocol/operation.ts";
import { bareCommand } from "../../../src/pgwire/command_text.ts";

const tenant = generateTenantId();
const timeline = generateTimelineId();

/** What the server reads of the command that a client writes. */
function argsOf(command: string): string {
  return command.slice(command.indexOf(" ") + 1);
}

describe("an operation", () => {
  test("is read as it was written, each form of argument", () => {
    const created = { tenant, name: parseBranchName("dev"), start: "main@0/1500000", expires: 90_000 };
    const create = formatCommand(PAGE_SERVER.branchCreate, created);
    assert.equal(create, `branch_create ${tenant} dev main@0/1500000 expires=90s`);
    assert.deepEqual(parseArgs(PAGE_SERVER.branchCreate, argsOf(create)), created);

    const backup = { tenant, timeline, lsn: lsn(0x1500000), lazy: true };
    const basebackup = formatCommand(PAGE_SERVER.basebackup, backup);
    assert.equal(basebackup, `basebackup ${tenant} ${timeline} 0/1500000 lazy`);
    assert.deepEqual(parseArgs(PAGE_SERVER.basebackup, argsOf(basebackup)), backup);

    const list = { tenant, timeline, safekeepers: [{ host: "::1", port: 5454 }, { host: "b", port: 1 }] };
    const safekeepers = formatCommand(PAGE_SERVER.timelineSafekeepers, list);
    assert.deepEqual(parseArgs(PAGE_SERVER.timelineSafekeepers, argsOf(safekeepers)), list);
  });

  test("leaves out what is optional, in the middle too", () => {
    assert.deepEqual(parseArgs(PAGE_SERVER.basebackup, `${tenant} ${timeline} lazy`), {
      tenant,
      timeline,
      lazy: true,
    });
    const config = parseArgs(PAGE_SERVER.tenantConfig, `${tenant} pitr_interval=2h gc_horizon_bytes=64`);
    assert.deepEqual(config, { tenant, pitr_interval: 7_200_000, gc_horizon_bytes: 64 });
    assert.deepEqual(parseArgs(SAFEKEEPER.timelineStatus, ""), {});
    assert.equal(
      formatCommand(PAGE_SERVER.branchDelete, { tenant, name: parseBranchName("x"), cascade: false }),
      `branch_delete ${tenant} x`,
    );
  });

  test("takes the rest of the command as it stands", () => {
    const conninfo = "host=db1 user='a  b'";
    assert.equal(
      parseArgs(PAGE_SERVER.callmemaybe, ` ${tenant}  ${timeline} ${conninfo} `).conninfo,
      conninfo,
    );
  });

  test("names what is wrong with its arguments", () => {
    const refuse = (read: () => unknown, message: RegExp) =>
      assert.throws(
        read,
        (error: Error & { kind?: string }) =>
          error.kind === "invalid_argument" && message.test(error.message),
      );
    refuse(
      () => parseArgs(PAGE_SERVER.branchList, ""),
      /branch_list has 0 arguments: expected branch_list <tenant>/,
    );
    refuse(() => parseArgs(PAGE_SERVER.branchDelete, `${tenant} x all`), /"all" is not "cascade"/);
    refuse(
      () => parseArgs(PAGE_SERVER.branchCreate, `${tenant} x main until=1h`),
      /"until=1h" is not expires=<duration>/,
    );
    refuse(
      () => parseArgs(PAGE_SERVER.doGc, `${tenant} ${timeline} 1GB`),
      /horizon is "1GB": expected a number of bytes/,
    );
    refuse(() => parseArgs(PAGE_SERVER.branchList, "nonsense"), /"nonsense" is not a tenant id/);
  });

  test("has a name of its own at each server, and a usage", () => {
    for (const operations of [PAGE_SERVER, SAFEKEEPER]) {
      const names = Object.values(operations).map(({ name }) => name);
      assert.equal(new Set(names).size, names.length);
    }
    assert.equal(
      usage(PAGE_SERVER.leaseLsn),
      "lease_lsn <tenant> <timeline> <LSN> [<duration>] [holder=<id>]",
    );
    assert.equal(
      usage(PAGE_SERVER.tenantConfig),
      "tenant_config <tenant> [gc_horizon_bytes=<bytes>] [pitr_interval=<duration>]",
    );
  });
});

describe("a command's text", () => {
  test("is freed of blanks and semicolons, in a time that grows with its length alone", () => {
    assert.equal(bareCommand("  status ; ;\n"), "status");
    assert.equal(bareCommand(" ;"), "");
    const long = `x${" ".repeat(1 << 20)}y`;
    assert.equal(bareCommand(long), long);
  });
});

test("arguments for a log have no settings and no passwords, nor what is named elsewhere", () => {
  const conninfo = "host=db1 password=s3cret";
  const follow = { tenant, name: parseBranchName("main"), conninfo };
  assert.deepEqual(plainArgs(PAGE_SERVER.followResume, follow), {
    name: "main",
    conninfo: "host=db1 password=***",
  });
  assert.deepEqual(plainArgs(PAGE_SERVER.timelineSetSettings, { tenant, timeline, settings: "AAAA" }), {});
});
