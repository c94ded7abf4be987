import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  assertNewBranchName,
  branchFileName,
  branchOfFileName,
  isBranchName,
  parseBranchName,
} from "../../../src/common/id.ts";

describe("a branch name", () => {
  test("is what git takes", () => {
    for (
      const name of ["main", "feature/login-123", "a/b/c", "v1.2", "_x", "größe/東京", "fix#12", "x=1", "a+b"]
    ) {
      assert.doesNotThrow(() => assertNewBranchName(name), name);
      assert.equal(parseBranchName(name), name);
    }
    assert.equal(parseBranchName("x".repeat(128)).length, 128);
  });

  test("is refused with the reason", () => {
    const refused: [string, RegExp][] = [
      ["", /empty/],
      ["-x", /begins with "-"/],
      ["a b", /a blank/],
      ["a\u0000b", /control character/],
      ["a\u001b[2Jb", /control character/],
      ["a\u2028b", /control character/],
      ["a\ud800b", /Unicode/],
      ["../climb", /"\.\."/],
      ["a..b", /"\.\."/],
      [".x", /"\." begins it/],
      ["a/.x", /follows a "\/"/],
      ["a//b", /"\/"/],
      ["/a", /"\/"/],
      ["a/", /"\/"/],
      ["a.", /ends with "\."/],
      ["a.lock", /\.lock/],
      ["a.tmp", /\.tmp/],
      ["a@b", /"@"/],
      ["a;b", /";"/],
      ["a'b", /"'"/],
      ["a%2Fb", /"%"/],
      ["0123456789abcdef0123456789ABCDEF", /timeline id/],
      ["x".repeat(129), /longer than 128/],
      ["東".repeat(60), /file name/],
    ];
    for (const [name, why] of refused) {
      assert.throws(() => assertNewBranchName(name), why, JSON.stringify(name));
    }
  });

  test("that an earlier version allowed is still that of its branch", () => {
    for (const name of ["a..b", "x.lock", "end."]) {
      assert.equal(parseBranchName(name), name);
      assert.equal(branchOfFileName(name), name);
      assert.throws(() => assertNewBranchName(name));
    }
  });

  test("is a file name that leads back to it, and to no other", () => {
    assert.equal(branchFileName(parseBranchName("main")), "main");
    assert.equal(branchFileName(parseBranchName("feature/login-123")), "feature%2Flogin-123");
    for (const name of ["main", "feature/login-123", "größe/東京", "fix#12"].map(parseBranchName)) {
      const file = branchFileName(name);
      assert.match(file, /^[A-Za-z0-9_.%-]+$/);
      assert.equal(branchOfFileName(file), name);
    }
    for (const file of ["feature/x", "feature%2flogin", "%6Dain", "a%", "a%2F..", "%FF", ".x", "a b"]) {
      assert.equal(branchOfFileName(file), null, file);
    }
    assert.ok(!isBranchName("../x"));
  });
});
