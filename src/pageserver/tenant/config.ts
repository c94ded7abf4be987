/** A tenant's configuration file. */
import { type InferOutput, integer, minValue, number, optional, pipe, strictObject } from "valibot";
import { stringify } from "smol-toml";
import { type Disk, replaceFile } from "../../common/disk.ts";
import { ioError } from "../../common/errors.ts";
import { parseTomlText } from "../../common/toml.ts";

const SECONDS_PER_DAY = 86_400;

const count = pipe(number(), integer(), minValue(0));

/** A tenant's `config.toml`. Every key is optional, and so is the file. */
const TenantConfigSchema = strictObject({
  /** How much history is kept at the end of every branch, in bytes of WAL. */
  gc_horizon_bytes: optional(count, 64 << 20),
  /** How much history is kept, as a time. The longer of the two counts. */
  pitr_interval_s: optional(count, 7 * SECONDS_PER_DAY),
});

export type TenantConfig = InferOutput<typeof TenantConfigSchema>;

const COMMENT =
  "# How much history this tenant keeps. Changed by the page server's command tenant_config.\n\n";

/** @throws {ZenithError} `invalid_argument`, naming file and key, when it is wrong; `io` */
export function readTenantConfig(disk: Disk, path: string): TenantConfig {
  const text = disk.statSync(path) === null ? "" : new TextDecoder().decode(disk.readFileSync(path));
  return parseTomlText(text, TenantConfigSchema, path);
}

/**
 * Replaces the file. Atomic, and durable when it resolves. Only one call at a time.
 *
 * @throws {ZenithError} `disk_full`, `io`
 */
export async function writeTenantConfig(
  disk: Disk,
  directory: string,
  path: string,
  config: TenantConfig,
): Promise<void> {
  const content = new TextEncoder().encode(COMMENT + stringify(config) + "\n");
  try {
    await replaceFile(disk, directory, path, content);
  } catch (error) {
    throw ioError("write", path, error);
  }
}
