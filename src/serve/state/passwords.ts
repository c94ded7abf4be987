/**
 * The passwords of roles that were made over the API, so that a connection string can be given out
 * again. They are encrypted: whoever gets the database file alone, such as from a backup, has none.
 */
import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { withIoErrors } from "../../common/errors.ts";
import type { TenantId } from "../../common/id.ts";
import { writePrivateFile } from "../../auth/private_file.ts";
import type { State } from "./state.ts";

const CIPHER = "aes-256-gcm";
const KEY_BYTES = 32;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;

export class Passwords {
  readonly #state: State;
  readonly #key: Buffer;

  /** @param keyFile made when it is not there @throws {ZenithError} `io` */
  constructor(state: State, keyFile: string) {
    this.#state = state;
    if (!existsSync(keyFile)) writePrivateFile(keyFile, `${randomBytes(KEY_BYTES).toString("base64")}\n`);
    this.#key = Buffer.from(
      withIoErrors("read", keyFile, () => readFileSync(keyFile, "utf8")).trim(),
      "base64",
    );
  }

  set(tenant: TenantId, timeline: string, role: string, password: string): void {
    const nonce = randomBytes(NONCE_BYTES);
    const cipher = createCipheriv(CIPHER, this.#key, nonce);
    cipher.setAAD(aad(tenant, timeline, role));
    const sealed = Buffer.concat([
      nonce,
      cipher.update(password, "utf8"),
      cipher.final(),
      cipher.getAuthTag(),
    ]);
    this.#state.run(
      "INSERT INTO role_password VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET password = excluded.password",
      tenant,
      timeline,
      role,
      sealed.toString("base64"),
    );
  }

  /** Undefined when it is not known. */
  get(tenant: TenantId, timeline: string, role: string): string | undefined {
    const row = this.#state.row(
      "SELECT password FROM role_password WHERE tenant = ? AND timeline = ? AND role = ?",
      tenant,
      timeline,
      role,
    );
    if (row === undefined) return undefined;
    const sealed = Buffer.from(String(row["password"]), "base64");
    const decipher = createDecipheriv(CIPHER, this.#key, sealed.subarray(0, NONCE_BYTES));
    decipher.setAAD(aad(tenant, timeline, role));
    decipher.setAuthTag(sealed.subarray(-TAG_BYTES));
    try {
      return Buffer.concat([decipher.update(sealed.subarray(NONCE_BYTES, -TAG_BYTES)), decipher.final()])
        .toString("utf8");
    } catch {
      // Sealed by another key: the file was lost, and a new one made.
      return undefined;
    }
  }

  /** A branch has the roles of the one that it comes from. */
  inherit(tenant: TenantId, from: string, to: string): void {
    for (
      const row of this.#state.rows(
        "SELECT role FROM role_password WHERE tenant = ? AND timeline = ?",
        tenant,
        from,
      )
    ) {
      const role = String(row["role"]);
      const password = this.get(tenant, from, role);
      if (password !== undefined) this.set(tenant, to, role, password);
    }
  }

  forget(tenant: TenantId, timeline: string, role: string): void {
    this.#state.run(
      "DELETE FROM role_password WHERE tenant = ? AND timeline = ? AND role = ?",
      tenant,
      timeline,
      role,
    );
  }
}

function aad(tenant: string, timeline: string, role: string): Buffer {
  return Buffer.from(`${tenant}/${timeline}/${role}`);
}
