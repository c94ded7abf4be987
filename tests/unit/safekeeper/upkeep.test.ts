import assert from "node:assert/strict";
import { test } from "node:test";
import { mkdirSync, mkdtempSync, renameSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SafekeeperPaths } from "../../../src/common/paths.ts";
import { type Logger, NULL_LOGGER } from "../../../src/process/log.ts";
import { runSafekeeper } from "../../../src/safekeeper/run_safekeeper.ts";

test("upkeep that fails is logged and tried again: the safekeeper goes on", async () => {
  const parent = mkdtempSync(join(tmpdir(), "zenith-upkeep-"));
  const workdir = join(parent, "safekeeper");
  mkdirSync(workdir);
  let warned = (_message: string): void => {};
  const logger: Logger = { ...NULL_LOGGER, warn: (message) => warned(message), child: () => logger };
  const nextWarning = (): Promise<string> => new Promise((resolve) => warned = resolve);
  const first = nextWarning();
  const starting = runSafekeeper({
    paths: new SafekeeperPaths(workdir),
    listen: { host: "127.0.0.1", port: 0 },
    id: 1,
    logger,
    pageserver: { host: "127.0.0.1", port: 1 },
    recallIntervalMs: 1,
    maintenanceIntervalMs: 1,
  });
  const safekeeper = await starting;
  try {
    // The first round of recall lists the timelines.
    renameSync(workdir, join(parent, "away"));
    assert.match(await first, /upkeep failed: .*ENOENT/);
  } finally {
    await safekeeper.stop();
    rmSync(parent, { recursive: true });
  }
});
