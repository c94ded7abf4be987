/** The supported majors, and how to tell which one wrote something. */
import { ZenithError } from "../../common/errors.ts";
import type { PgVersion } from "./pg_version.ts";
import { V14 } from "./v14.ts";
import { V15 } from "./v15.ts";
import { V16 } from "./v16.ts";
import { V17 } from "./v17.ts";
import { V18 } from "./v18.ts";

const VERSIONS: readonly PgVersion[] = [V14, V15, V16, V17, V18];

/** Every supported major, ascending. */
export const PG_MAJORS: readonly number[] = VERSIONS.map(({ major }) => major);

/** @throws {ZenithError} `not_implemented` for a major that is not in {@link PG_MAJORS} */
export function pgVersion(major: number): PgVersion {
  const version = VERSIONS.find((candidate) => candidate.major === major);
  if (version === undefined) throw unknown(`PostgreSQL ${major}`);
  return version;
}

/**
 * The major whose clusters have this CATALOG_VERSION_NO. @throws {ZenithError} `not_implemented`
 * when there is none
 */
export function pgVersionOfCatalog(catalogVersion: number): PgVersion {
  const version = VERSIONS.find((candidate) => candidate.catalogVersion === catalogVersion);
  if (version === undefined) throw unknown(`a cluster with catalog version ${catalogVersion}`);
  return version;
}

/**
 * The major that writes WAL pages with this magic number. @throws {ZenithError} `not_implemented`
 * when there is none
 */
export function pgVersionOfWal(walPageMagic: number): PgVersion {
  const version = VERSIONS.find((candidate) => candidate.walPageMagic === walPageMagic);
  if (version === undefined) throw unknown(`WAL with page magic 0x${walPageMagic.toString(16)}`);
  return version;
}

function unknown(what: string): ZenithError {
  return new ZenithError("not_implemented", `${what} is not supported`, {
    hint: `the supported PostgreSQL majors are ${PG_MAJORS.join(", ")}`,
  });
}
