import assert from "node:assert/strict";
import { appendFileSync, copyFileSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { Agent, request } from "node:https";
import { connect, Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, beforeEach, describe, test } from "node:test";
import { connect as connectTls, type TLSSocket } from "node:tls";
import { ensureServerCertificate } from "../../../src/auth/certificates.ts";
import type { HostPort } from "../../../src/common/host_port.ts";
import { AuthPaths } from "../../../src/common/paths.ts";
import { ServerTls } from "../../../src/pgwire/tls.ts";
import { NULL_LOGGER } from "../../../src/process/log.ts";
import { EncryptedPort } from "../../../src/serve/http/encrypted_port.ts";
import { HttpServer, type Site } from "../../../src/serve/http/server.ts";

const LOCAL: HostPort = { host: "127.0.0.1", port: 0 };
const LONG_MS = 60_000;

let dir: string;
let errors: unknown[];
let tls: ServerTls;

/** Puts a certificate for this name where the server has its own. */
async function certify(name: string): Promise<void> {
  const auth = new AuthPaths(join(dir, name));
  await ensureServerCertificate(auth, [name]);
  copyFileSync(auth.serverKey, join(dir, "key"));
  copyFileSync(auth.serverCertificate, join(dir, "cert"));
}

before(() => dir = mkdtempSync(join(tmpdir(), "zenith-http-")));
after(() => rmSync(dir, { recursive: true, force: true }));
beforeEach(async () => {
  await certify("one");
  errors = [];
  tls = new ServerTls({
    cert: join(dir, "cert"),
    key: join(dir, "key"),
    onError: (error) => errors.push(error),
  });
});

interface Answer {
  readonly body: string;
  /** The name in the certificate. */
  readonly shown: string;
}

function ask({ port }: HostPort, path: string, agent: Agent): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const asked = request({ host: "127.0.0.1", port, path, agent, rejectUnauthorized: false }, (answer) => {
      const socket = answer.socket as TLSSocket;
      const shown = socket.getPeerCertificate().subjectaltname ?? "";
      let body = "";
      answer.on("data", (chunk) => body += chunk);
      answer.on("end", () => resolve({ body, shown }));
    });
    asked.on("error", reject);
    asked.end();
  });
}

describe("the HTTPS port", () => {
  const echo: Site = {
    at: [],
    handle: ({ path, address }) => Promise.resolve({ status: 200, body: `${path.join()} for ${address}` }),
  };

  test("shows a new certificate to new connections, and the old one when the new one is broken", async () => {
    const server = new HttpServer({
      sites: [echo],
      upgrade: (_request, socket) => socket.end(),
      log: NULL_LOGGER,
      tls,
      maxConnections: 10,
      isOurs: () => true,
    });
    const address = await server.listen(LOCAL);
    const kept = new Agent({ keepAlive: true, maxSockets: 1 });
    try {
      assert.deepEqual(await ask(address, "/a", kept), { body: "a for 127.0.0.1", shown: "DNS:one" });
      await certify("two");
      const anew = () => ask(address, "/b", new Agent());
      assert.equal((await anew()).shown, "DNS:two");
      // A connection that there was goes on.
      assert.equal((await ask(address, "/c", kept)).body, "c for 127.0.0.1");
      writeFileSync(join(dir, "cert"), "rubbish\n");
      assert.equal((await anew()).shown, "DNS:two");
      assert.equal((await anew()).shown, "DNS:two");
      assert.equal(errors.length, 1);
      await certify("three");
      assert.equal((await anew()).shown, "DNS:three");
    } finally {
      kept.destroy();
      await server.close();
    }
  });
});

describe("a certificate", () => {
  const skip = "Deno" in globalThis ? "Deno reads the rest of a chain when a connection needs it" : false;

  test("is no good when the rest of its chain is broken", { skip }, async () => {
    const before = tls.accept(new Socket()).cert;
    await certify("two");
    appendFileSync(join(dir, "cert"), "-----BEGIN CERTIFICATE-----\nMIIB\n");
    assert.equal(tls.accept(new Socket()).cert, before);
    assert.equal(errors.length, 1);
  });
});

describe("a connection without a request", () => {
  const serve = async (limits: { headersTimeoutMs: number; keepAliveMs: number }) => {
    const http = createServer((asked, answer) => {
      if (asked.url === "/slow") asked.socket.once("slow", () => answer.end("at last"));
      else answer.end("at once");
    });
    const port = new EncryptedPort({ http, tls, maxConnections: 2, ...limits });
    return { http, port, address: await port.listen(LOCAL, () => {}) };
  };

  /** Resolves when the server has closed a connection on which nothing is said. */
  const silence = ({ port }: HostPort): Promise<void> =>
    new Promise((resolve) => {
      connect(port, "127.0.0.1").on("error", () => {}).on("close", () => resolve());
    });

  test("ends after its time, at the beginning and after an answer", async () => {
    const impatient = await serve({ headersTimeoutMs: 20, keepAliveMs: LONG_MS });
    await silence(impatient.address);
    await impatient.port.close();

    const { port, address } = await serve({ headersTimeoutMs: LONG_MS, keepAliveMs: 20 });
    const answer = await new Promise<string>((resolve) => {
      const socket = connectTls({ port: address.port, host: "127.0.0.1", rejectUnauthorized: false });
      socket.write("GET / HTTP/1.1\r\nHost: one\r\n\r\n");
      let heard = "";
      socket.on("data", (chunk) => heard += chunk);
      socket.on("error", () => {});
      socket.on("close", () => resolve(heard));
    });
    assert.match(answer, /at once$/);
    await port.close();
  });

  test("does not end while its request has no answer, and there may be so many of them", async () => {
    const { http, port, address } = await serve({ headersTimeoutMs: LONG_MS, keepAliveMs: 20 });
    const agent = new Agent();
    let slow: TLSSocket | undefined;
    const arrived = new Promise<void>((resolve) => {
      http.on("request", ({ url, socket }) => {
        if (url !== "/slow") return;
        slow = socket as TLSSocket;
        resolve();
      });
    });
    const answer = ask(address, "/slow", agent);
    await arrived;
    const second = connect(address.port, "127.0.0.1");
    second.on("error", () => {});
    await new Promise((resolve) => second.once("connect", resolve));
    // One too many.
    await silence(address);
    slow!.emit("slow");
    assert.equal((await answer).body, "at last");
    second.destroy();
    await port.close();
  });
});
