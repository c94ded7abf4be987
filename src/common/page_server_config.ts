/** The page server's configuration file and its defaults. */
import {
  check,
  type InferOutput,
  integer,
  minValue,
  number,
  optional,
  picklist,
  pipe,
  strictObject,
  string,
} from "valibot";
import { parseHostPort } from "./host_port.ts";
import { SCRUB_BYTES_PER_S_DEFAULT, SCRUB_PAUSE_MS_DEFAULT } from "./scrub_limits.ts";

const MIB = 1 << 20;

/** The page server's default address. The port is that of the 2021 Zenith. */
export const PAGESERVER_DEFAULT_LISTEN = "127.0.0.1:64000";

/** `host:port`. */
export const AddressSchema = pipe(
  string(),
  check((text) => {
    try {
      parseHostPort(text);
      return true;
    } catch {
      return false;
    }
  }, "expected host:port"),
);

const bytes = (smallest: number) => pipe(number(), integer(), minValue(smallest));

/** `pageserver.toml`. Every key is optional; an empty file is a complete one. */
export const PageServerConfigSchema = strictObject({
  listen: optional(AddressSchema, PAGESERVER_DEFAULT_LISTEN),
  /**
   * The PostgreSQL installation whose initdb creates new tenants. Defaults to the first one found.
   */
  pg_distrib_dir: optional(string()),
  log_level: optional(picklist(["debug", "info", "warn", "error"]), "info"),
  /** How much WAL a timeline's memory layer holds before it is frozen and written out. */
  checkpoint_distance_bytes: optional(bytes(MIB), 64 * MIB),
  /** The limit for all memory layers together. Open layers get half of it. */
  memory_layer_bytes: optional(bytes(4 * MIB), 128 * MIB),
  /** The cache of decompressed layer blocks, for all timelines together. */
  block_cache_bytes: optional(bytes(MIB), 64 * MIB),
  /** The cache of rebuilt pages, for all timelines together. */
  page_cache_bytes: optional(bytes(MIB), 64 * MIB),
  /** How much WAL is kept for a timeline's replication slots. A slot that needs more is lost. */
  slot_wal_max_bytes: optional(bytes(MIB), 10 * 1024 * MIB),
  /** How often garbage is collected in each timeline. */
  gc_period_s: optional(pipe(number(), integer(), minValue(1)), 3600),
  /** A timeline that nobody has used for this long is closed. It is opened again when needed. */
  idle_timeline_s: optional(pipe(number(), integer(), minValue(1)), 300),
  /** How much the check of data at rest reads per second, and how long it rests after a pass. */
  scrub_bytes_per_s: optional(bytes(1), SCRUB_BYTES_PER_S_DEFAULT),
  scrub_pause_s: optional(pipe(number(), integer(), minValue(1)), SCRUB_PAUSE_MS_DEFAULT / 1000),
  /** The URL of the object store that everything is uploaded to. Without it, nothing is. */
  object_store: optional(string()),
  /** The file with the key that what is uploaded is encrypted with. Without it, nothing is. */
  object_store_key_file: optional(string()),
  /**
   * How much disk layers may take that the object store has, or is to have. Without a limit, what
   * was fetched or written stays here. At least 64 MiB.
   */
  layer_disk_bytes: optional(bytes(64 * MIB)),
  /** How often new WAL is uploaded: what a lost disk may cost. */
  wal_upload_interval_ms: optional(pipe(number(), integer(), minValue(100)), 1000),
  /** How long objects stay in the store that nothing needs any more. */
  deletion_delay_s: optional(pipe(number(), integer(), minValue(0)), 86_400),
  /**
   * How long WAL stays in the store that layers have replaced. With it, all WAL is uploaded before
   * it is removed here. As long as any other object when left out, as far as it was uploaded.
   */
  wal_retention_s: optional(pipe(number(), integer(), minValue(0))),
  /**
   * Where page servers that share the object store keep which of them has which tenant, such as
   * `etcd://10.0.0.1:2379/zenith`. Without it, this one has what is on its disk.
   */
  places: optional(string()),
  /** The address by which others reach it, with `places`. Defaults to `listen`. */
  advertise: optional(AddressSchema),
  /** How long a read waits for an LSN that has not arrived. */
  wait_lsn_timeout_ms: optional(pipe(number(), integer(), minValue(0)), 60_000),
});

export type PageServerConfig = InferOutput<typeof PageServerConfigSchema>;
