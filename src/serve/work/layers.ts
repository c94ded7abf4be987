/** What a branch consists of on the page server, and what the read of a page goes through. */
import type { TenantId } from "../../common/id.ts";
import { formatLsn, type Lsn } from "../../common/lsn.ts";
import { parseRelation } from "../../control/relation_file.ts";
import type { Branch } from "./branches.ts";
import { withPageServer, type WorkContext } from "./context.ts";

/** A chain of branches may be longer; its oldest parts are rarely asked for. */
const PARTS_MAX = 64;

/** The timelines of a branch with their layers, newest first. */
export async function layersOf(context: WorkContext, tenant: TenantId, branch: Branch) {
  return await withPageServer(context, async (client) => {
    const parts = await client.timelineHistory(tenant, branch.timeline_id);
    const branches = await client.branchList(tenant);
    const found = [];
    for (const { timeline_id, lsn } of parts.slice(0, PARTS_MAX)) {
      const { start_lsn, disk_consistent_lsn, memory_bytes, layers } = await client.timelineLayers(
        tenant,
        timeline_id,
      );
      found.push({
        timeline_id,
        branch: branches.find((other) => other.timeline_id === timeline_id)?.name ?? null,
        start_lsn: formatLsn(start_lsn),
        end_lsn: formatLsn(lsn),
        disk_consistent_lsn: formatLsn(disk_consistent_lsn),
        memory_bytes,
        layers: layers.map((layer) => ({
          ...layer,
          start_lsn: formatLsn(layer.start_lsn),
          end_lsn: formatLsn(layer.end_lsn),
        })),
      });
    }
    return found;
  });
}

const FORKS = ["main", "fsm", "vm", "init"] as const;
/** The kind of relation forks: docs/formats/keys.md. */
const KIND_RELATION = 1;

interface PageQuery {
  /** As pg_relation_filepath() has it. */
  readonly file: string;
  readonly fork: (typeof FORKS)[number];
  readonly block: number;
  /** Undefined for the branch's end. */
  readonly lsn: Lsn | undefined;
}

/** @throws {ZenithError} `invalid_argument` when the file is no relation's */
export async function readsOfPage(
  context: WorkContext,
  tenant: TenantId,
  branch: Branch,
  { file, fork, block, lsn }: PageQuery,
) {
  const { spcNode: spc, dbNode: db, relNode: rel } = parseRelation(file);
  const page = { spc, db, rel, fork: FORKS.indexOf(fork), block };
  const found = await withPageServer(
    context,
    (client) => client.pageVersions(tenant, branch.timeline_id, page, lsn),
  );
  return {
    lsn: formatLsn(found.lsn),
    versions: found.versions.map(({ lsn, kind, bytes }) => ({ lsn: formatLsn(lsn), kind, bytes })),
    complete: found.complete,
    key: [KIND_RELATION, spc, db, rel, page.fork, block],
  };
}
