/**
 * Incremental base backups of a stock cluster, as `pg_basebackup --incremental` takes them: by UPLOAD_MANIFEST and
 * BASE_BACKUP. npm's PostgreSQL has no pg_basebackup, and Debian's 15 knows none of it.
 */
import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import type { StockCluster } from "./stock_cluster.ts";

const PROTOCOL_3 = 196_608;
/** How much of a manifest goes into a message. */
const PIECE_BYTES = 64 << 10;

/**
 * Takes a backup and unpacks it.
 *
 * @param before the directory of the backup that it builds on; null for a full one
 */
export async function backUpUnpacked(
  cluster: StockCluster,
  directory: string,
  before: string | null,
): Promise<void> {
  mkdirSync(directory, { recursive: true });
  const session = await ReplicationSession.open(join(cluster.directory, `.s.PGSQL.${cluster.port}`));
  const tar: Buffer[] = [];
  const manifest: Buffer[] = [];
  try {
    if (before !== null) await session.upload(readFileSync(join(before, "backup_manifest")));
    const incremental = before === null ? "" : ", INCREMENTAL";
    session.send("Q", `BASE_BACKUP (LABEL 'x', WAL, CHECKPOINT 'fast', MANIFEST 'yes'${incremental})\0`);
    let into = tar;
    for await (const { type, body } of session.untilReady()) {
      if (type !== "d") continue;
      const kind = String.fromCharCode(body[0]!);
      if (kind === "n") into = tar;
      else if (kind === "m") into = manifest;
      else if (kind === "d") into.push(body.subarray(1));
    }
  } finally {
    session.close();
  }
  const path = join(directory, "base.tar");
  writeFileSync(path, Buffer.concat(tar));
  const done = spawnSync("tar", ["-xf", path, "-C", directory], { encoding: "utf8" });
  if (done.status !== 0) throw new Error(`tar failed: ${done.stderr}`);
  spawnSync("rm", [path]);
  writeFileSync(join(directory, "backup_manifest"), Buffer.concat(manifest));
}

interface Message {
  readonly type: string;
  readonly body: Buffer;
}

/** A walsender's connection, of a cluster that trusts whoever reaches its socket. */
class ReplicationSession {
  readonly #socket: Socket;
  readonly #chunks: AsyncIterator<Buffer>;
  #rest: Buffer = Buffer.alloc(0);

  private constructor(socket: Socket) {
    this.#socket = socket;
    this.#chunks = socket[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
  }

  static async open(path: string): Promise<ReplicationSession> {
    const socket = connect(path);
    await new Promise<void>((resolve, reject) => socket.once("connect", resolve).once("error", reject));
    const session = new ReplicationSession(socket);
    const body = Buffer.from("user\0postgres\0replication\0true\0\0");
    const head = Buffer.alloc(8);
    head.writeInt32BE(8 + body.length);
    head.writeInt32BE(PROTOCOL_3, 4);
    socket.write(Buffer.concat([head, body]));
    for await (const _ of session.untilReady());
    return session;
  }

  async upload(manifest: Buffer): Promise<void> {
    this.send("Q", "UPLOAD_MANIFEST\0");
    for (;;) {
      const { type } = await this.#next();
      if (type === "G") break;
    }
    for (let at = 0; at < manifest.length; at += PIECE_BYTES) {
      this.send("d", manifest.subarray(at, at + PIECE_BYTES));
    }
    this.send("c", "");
    for await (const _ of this.untilReady());
  }

  send(type: string, body: string | Buffer): void {
    const bytes = Buffer.from(body);
    const head = Buffer.alloc(5);
    head.write(type);
    head.writeInt32BE(4 + bytes.length, 1);
    this.#socket.write(Buffer.concat([head, bytes]));
  }

  /** Yields the messages up to the one that says that the server is ready for the next command. */
  async *untilReady(): AsyncGenerator<Message> {
    for (;;) {
      const message = await this.#next();
      if (message.type === "Z") return;
      yield message;
    }
  }

  async #next(): Promise<Message> {
    for (;;) {
      if (this.#rest.length >= 5) {
        const end = 1 + this.#rest.readInt32BE(1);
        if (this.#rest.length >= end) {
          const message = { type: String.fromCharCode(this.#rest[0]!), body: this.#rest.subarray(5, end) };
          this.#rest = this.#rest.subarray(end);
          if (message.type !== "E") return message;
          throw new Error(message.body.toString().replaceAll("\0", " "));
        }
      }
      const { done, value } = await this.#chunks.next();
      if (done === true) throw new Error("the server has closed the connection");
      this.#rest = Buffer.concat([this.#rest, value]);
    }
  }

  close(): void {
    this.#socket.destroy();
  }
}
