import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ZenithError } from "../../../src/common/errors.ts";
import {
  decodeSmallFile,
  encodeSmallFile,
  SmallFile,
  type SmallFormat,
} from "../../../src/common/small_file.ts";
import { FaultyDisk } from "../../harness/faulty_disk.ts";
import { Random } from "../../harness/random.ts";

const FORMAT: SmallFormat<readonly string[]> = {
  title: "zenith colours",
  encode: (value) => value,
  decode: (lines) => {
    if (lines.includes("")) throw new Error("a colour has no name");
    return lines;
  },
};
const text = (content: string) => new TextEncoder().encode(content);

function emptyDisk(): FaultyDisk {
  const disk = new FaultyDisk(new Random(1));
  disk.mkdirSync("/t");
  disk.fsyncDirSync("/");
  return disk;
}

describe("a small file", () => {
  test("says what was written last, and says nothing while it isn't there", async () => {
    const disk = emptyDisk();
    const file = new SmallFile(disk, "/t/colours", FORMAT);
    assert.equal(file.read(), null);
    for (const value of [["red", "green"], []]) {
      await file.write(value);
      disk.crash();
      assert.deepEqual(file.read(), value);
    }
  });

  test("without a checksum, as version 1 was, is read and gets one when it is written", () => {
    assert.deepEqual(decodeSmallFile(FORMAT, text("zenith colours 1\nred\n"), "f"), ["red"]);
    const written = new TextDecoder().decode(encodeSmallFile(FORMAT, ["red"]));
    assert.match(written, /^zenith colours 2\nred\ncrc32c [0-9a-f]{8}\n$/);
  });

  test("with any bit flipped, or cut anywhere, is refused by its path", () => {
    const good = encodeSmallFile(FORMAT, ["red", "green"]);
    const damaged: Uint8Array[] = [];
    for (let bit = 0; bit < 8 * good.length; bit++) {
      const bytes = good.slice();
      bytes[bit >> 3] ^= 1 << (bit & 7);
      damaged.push(bytes);
    }
    for (let length = 0; length < good.length; length++) damaged.push(good.slice(0, length));
    damaged.push(text("zenith colours 3\n"), text("zenith colours 1\n\n"), text("zenith leases 1\n"));
    for (const bytes of damaged) {
      assert.throws(
        () => decodeSmallFile(FORMAT, bytes, "/t/colours"),
        (error) =>
          error instanceof ZenithError && error.kind === "corrupt_data" &&
          error.message.startsWith("/t/colours "),
        new TextDecoder().decode(bytes),
      );
    }
  });

  test("that is damaged can be set aside, which is not forgotten", async () => {
    const disk = emptyDisk();
    const damaged = disk.openSync("/t/colours", "create");
    damaged.writeSync(text("rubbish"), 0, 7, 0);
    damaged.fsyncSync();
    const file = new SmallFile(disk, "/t/colours", FORMAT);
    assert.equal(file.damage(), null);
    assert.equal(file.readOrSetAside(), null);
    await file.write(["blue"]);
    disk.crash();
    const reopened = new SmallFile(disk, "/t/colours", FORMAT);
    assert.deepEqual(reopened.readOrSetAside(), ["blue"]);
    assert.equal(reopened.damage(), "/t/colours was damaged, and is now /t/colours.damaged");
    disk.unlinkSync("/t/colours.damaged");
    assert.equal(reopened.damage(), null);
  });
});
