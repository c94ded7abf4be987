/** Relations by the names of their files, in a cluster of any major version. */
import { ZenithError } from "../common/errors.ts";
import {
  MAIN_FORKNUM,
  parseRelationPath,
  type RelationPath,
  type RelFileNode,
} from "../postgres/cluster/relfile.ts";
import { PG_MAJORS, pgVersion } from "../postgres/versions/find_version.ts";

/**
 * @param file relative to the data directory: `base/5/16384_vm`
 * @throws {ZenithError} `invalid_argument`
 */
export function parseRelationFile(file: string): RelationPath {
  for (const major of PG_MAJORS) {
    const path = parseRelationPath(pgVersion(major), file);
    if (path?.temporary === false) return path;
  }
  throw noRelationFile(file);
}

/**
 * @param file as pg_relation_filepath() names it: `base/5/16384`
 * @throws {ZenithError} `invalid_argument`
 */
export function parseRelation(file: string): RelFileNode {
  const { rel, forkNum, segno } = parseRelationFile(file);
  if (forkNum !== MAIN_FORKNUM || segno !== 0) throw noRelationFile(file);
  return rel;
}

function noRelationFile(file: string): ZenithError {
  return new ZenithError(
    "invalid_argument",
    `"${file}" is not a relation's file: expected e.g. base/5/16384`,
    { hint: "SELECT pg_relation_filepath('t') names it" },
  );
}
