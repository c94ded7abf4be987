/** What the matrix of tests/integration/security_matrix.test.ts tries: each command, and whom it lets in. */
import { generateTenantId, generateTimelineId } from "../../src/common/id.ts";

/** Neither exists: whoever is let in learns just that, and changes nothing. */
export const tenant = generateTenantId();
export const timeline = generateTimelineId();
/** An archive that does not exist. */
const archive = Buffer.from('{"path":"/nowhere","stanza":null,"passphrase":null}').toString("base64url");
/** Where the tokens say that their holders are. Nobody listens there. */
export const ADDRESS = "127.0.0.1:1";

/** Good tokens, a scope each. */
export const VALID = ["admin", "tenant", "read", "compute", "safekeeper", "pageserver"] as const;

export type Valid = (typeof VALID)[number];

/** What each command is called with, and whom it lets in. */
export interface Row {
  readonly args: string;
  readonly by: readonly Valid[];
}

const ADMIN: readonly Valid[] = ["admin"];
const OWNER: readonly Valid[] = ["admin", "tenant"];
const READER: readonly Valid[] = ["admin", "tenant", "read"];
const READER_OF_ONE: readonly Valid[] = [...READER, "compute"];
const FINDER: readonly Valid[] = [...READER_OF_ONE, "safekeeper"];
export const WRITER: readonly Valid[] = ["admin", "tenant", "compute"];
export const ONE = `${tenant} ${timeline}`;

export const PAGE_SERVER_ROWS: Readonly<Record<string, Row>> = {
  status: { args: "", by: ADMIN },
  scrub_status: { args: "", by: ADMIN },
  tenants_held_back: { args: "", by: ADMIN },
  object_store_status: { args: "", by: ADMIN },
  transfer_list: { args: "", by: ADMIN },
  tenant_list: { args: "", by: ADMIN },
  tenant_status: { args: tenant, by: READER },
  tenant_create: { args: `${tenant} locale=nowhere`, by: ADMIN },
  tenant_place: { args: tenant, by: FINDER },
  place_list: { args: "", by: ADMIN },
  tenant_move: { args: `${tenant} 127.0.0.1:1`, by: ADMIN },
  tenant_as_of: { args: `${tenant} 2026-01-01T00:00:00Z`, by: ADMIN },
  tenant_attach: { args: tenant, by: ADMIN },
  tenant_detach: { args: tenant, by: ADMIN },
  tenant_delete: { args: tenant, by: ADMIN },
  tenant_import: { args: `${tenant} main`, by: ADMIN },
  follow_start: { args: `${tenant} main 1000000 host=127.0.0.1 port=1`, by: ADMIN },
  follow_mount: { args: `${tenant} main ${archive} 20261130-074326F`, by: ADMIN },
  follow_list: { args: "", by: ADMIN },
  follow_stop: { args: `${tenant} one`, by: OWNER },
  follow_resume: { args: `${tenant} one host=127.0.0.1 port=1`, by: OWNER },
  follow_remove: { args: `${tenant} one`, by: OWNER },
  deleted_list: { args: "", by: ADMIN },
  tenant_config: { args: `${tenant} pitr_interval=1s`, by: OWNER },
  tenant_limits: { args: tenant, by: READER },
  tenant_set_limits: { args: `${tenant} branches=1`, by: ADMIN },
  branch_list: { args: tenant, by: READER },
  branch_get: { args: `${tenant} one`, by: READER },
  branch_damaged: { args: tenant, by: READER },
  branch_create: { args: `${tenant} one main`, by: OWNER },
  branch_rename: { args: `${tenant} one two`, by: OWNER },
  branch_restore: { args: `${tenant} one main`, by: OWNER },
  branch_set_expiry: { args: `${tenant} one expires=1s`, by: OWNER },
  branch_protect: { args: `${tenant} one off`, by: OWNER },
  branch_require_mask: { args: `${tenant} one`, by: OWNER },
  branch_delete: { args: `${tenant} one`, by: OWNER },
  lsn_at: { args: `${ONE} 2026-01-01T00:00:00Z`, by: READER_OF_ONE },
  timeline_history: { args: ONE, by: READER_OF_ONE },
  changed_blocks: { args: `${ONE} 0/1 ${timeline} 0/2 5`, by: READER_OF_ONE },
  timeline_layers: { args: ONE, by: READER_OF_ONE },
  page_versions: { args: `${ONE} 1663 5 1259 0 0`, by: READER_OF_ONE },
  timeline_status: { args: ONE, by: WRITER },
  receiver_status: { args: ONE, by: WRITER },
  timeline_safekeepers: { args: `${ONE} ${ADDRESS}`, by: WRITER },
  timeline_settings: { args: ONE, by: WRITER },
  timeline_set_settings: { args: `${ONE} AAAA`, by: WRITER },
  timeline_take_slots: { args: ONE, by: WRITER },
  timeline_set_slots: { args: `${ONE} 1 AAAA`, by: WRITER },
  pagestream: { args: ONE, by: WRITER },
  basebackup: { args: ONE, by: WRITER },
  compute_attach: { args: ONE, by: WRITER },
  callmemaybe: { args: `${ONE} host=127.0.0.1 port=1`, by: [...WRITER, "safekeeper"] },
  timeline_switch: { args: `${ONE} 0/1`, by: WRITER },
  wal_timelines: { args: ONE, by: [...WRITER, "safekeeper"] },
  wal_read: { args: `${ONE} 0/1 0/2`, by: [...WRITER, "safekeeper"] },
  lease_lsn: { args: `${ONE} 0/1`, by: READER_OF_ONE },
  lease_release: { args: `${ONE} 0/1 me`, by: READER_OF_ONE },
  do_gc: { args: ONE, by: OWNER },
};

export const SAFEKEEPER_ROWS: Readonly<Record<string, Row>> = {
  timeline_status: { args: ONE, by: READER_OF_ONE },
  timeline_damaged: { args: "", by: ADMIN },
  scrub_status: { args: "", by: ADMIN },
  tenants_held_back: { args: "", by: ADMIN },
  tenant_limits: { args: tenant, by: READER },
  tenant_set_limits: { args: `${tenant} connections=default`, by: ADMIN },
  timeline_delete: { args: ONE, by: OWNER },
  timeline_lower_term: { args: `${ONE} 1`, by: ADMIN },
  timeline_create_standby_slot: { args: `${ONE} paris 1000`, by: OWNER },
  timeline_drop_standby_slot: { args: `${ONE} paris`, by: OWNER },
  start_wal_push: { args: "", by: WRITER },
};

/** Of PostgreSQL's protocol, on connections whose options name the timeline. */
export const REPLICATION_ROWS: Readonly<Record<string, Row>> = {
  IDENTIFY_SYSTEM: { args: "", by: [...READER_OF_ONE, "pageserver"] },
  START_REPLICATION: { args: "PHYSICAL 0/1", by: [...READER_OF_ONE, "pageserver"] },
  READ_REPLICATION_SLOT: { args: "paris", by: [...READER_OF_ONE, "pageserver"] },
  SHOW: { args: "wal_segment_size", by: [...READER_OF_ONE, "pageserver"] },
  CREATE_REPLICATION_SLOT: { args: "pageserver PHYSICAL", by: [...READER_OF_ONE, "pageserver"] },
};

/** The same of the page server, for base backups. */
export const BACKUP_ROWS: Readonly<Record<string, Row>> = {
  IDENTIFY_SYSTEM: { args: "", by: READER_OF_ONE },
  SHOW: { args: "wal_segment_size", by: READER_OF_ONE },
  CREATE_REPLICATION_SLOT: { args: "backup TEMPORARY PHYSICAL", by: READER_OF_ONE },
  READ_REPLICATION_SLOT: { args: "backup", by: READER_OF_ONE },
  START_REPLICATION: { args: "PHYSICAL 0/0", by: READER_OF_ONE },
  BASE_BACKUP: { args: "(LABEL 'x')", by: READER_OF_ONE },
};
