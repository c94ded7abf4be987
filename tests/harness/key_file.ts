/** A key file of an object store, in a directory of its own. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  generateStoreKey,
  readKeyFile,
  type StoreKeys,
  writeKeyFile,
} from "../../src/object_store/key_file.ts";

export class KeyFile {
  readonly #directory = mkdtempSync(join(tmpdir(), "zenith-key-"));
  readonly path = join(this.#directory, "store.key");

  /** With one new key, unless others are given. */
  constructor(keys: StoreKeys = [generateStoreKey()]) {
    writeKeyFile(this.path, keys);
  }

  get keys(): StoreKeys {
    return readKeyFile(this.path);
  }

  set keys(keys: StoreKeys) {
    writeKeyFile(this.path, keys);
  }

  remove(): void {
    rmSync(this.#directory, { recursive: true });
  }
}
