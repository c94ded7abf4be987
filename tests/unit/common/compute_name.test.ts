import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  computeFileName,
  type ComputeName,
  computeOfFileName,
  formatComputeName,
} from "../../../src/common/compute_name.ts";
import { branchOfFileName, parseBranchName } from "../../../src/common/id.ts";
import { lsn } from "../../../src/common/lsn.ts";

const named = (branch: string, moment: number | null, replica: number | null = null): ComputeName => ({
  branch: parseBranchName(branch),
  moment: moment === null ? null : lsn(moment),
  replica,
});

describe("a compute's name", () => {
  test("is its branch's, with the moment that it looks at, or its number as a replica", () => {
    assert.equal(formatComputeName(named("main", null, 12)), "main@replica12");
    assert.equal(formatComputeName(named("main", null)), "main");
    assert.equal(formatComputeName(named("a/b", 0x5_16b5_a50)), "a/b@0/516B5A50");
  });

  test("is found again in the name of its directory", () => {
    for (const branch of ["main", "feature/login-123", "größe", "a.b-c_d"]) {
      for (const moment of [null, 8, 0x16b_5a50, 0x1_0000_0000, 0xffff_ffff_ff]) {
        const name = named(branch, moment);
        assert.deepEqual(computeOfFileName(computeFileName(name)), name);
        assert.ok(!computeFileName(name).includes("/"));
        // Who knows of branches alone passes it over.
        if (moment !== null) assert.equal(branchOfFileName(computeFileName(name)), null);
      }
    }
    assert.equal(computeFileName(named("main", 0x16b_5a50)), "main@0-16B5A50");
    assert.equal(computeFileName(named("main", null, 1)), "main@replica1");
    assert.deepEqual(computeOfFileName("main@replica1"), named("main", null, 1));
  });

  test("is in no other directory's name", () => {
    for (
      const file of [
        "",
        "main@",
        "@0-16B5A50",
        "main@0/16B5A50",
        "main@00-16B5A50",
        "main@0-16b5a50",
        "main@0-1@0-2",
      ]
        .concat("main@replica", "main@replica0", "main@replica01", "main@replica1@replica2")
        .concat("main@0-123456789", ".main@0-16B5A50.77", "main@-5m", "a%2fb@0-8")
    ) assert.equal(computeOfFileName(file), null, file);
  });
});
