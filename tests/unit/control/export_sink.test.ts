import assert from "node:assert/strict";
import { PassThrough } from "node:stream";
import { describe, test } from "node:test";
import { readTar } from "../../../src/control/backup_tar.ts";
import { TarSink } from "../../../src/control/export_sink.ts";

/** More than streams hold. */
const BYTES = 8 << 20;

describe("a tar that nobody reads any more", () => {
  for (const filesRead of [0, 1]) {
    test(`does not keep its writer waiting, ${filesRead} files on`, async () => {
      const tar = new PassThrough();
      const sink = new TarSink(tar);
      for (const name of ["first", "second"]) {
        sink.begin(name, BYTES);
        sink.content(new Uint8Array(BYTES));
        sink.end();
      }
      const ready = sink.ready();
      const files = readTar(tar, "the tar");
      for (let i = 0; i < filesRead; i++) await files.next();
      await files.return(undefined);
      tar.destroy();
      await assert.rejects(ready);
      sink.content(new Uint8Array(1));
      await assert.rejects(sink.ready());
    });
  }
});
