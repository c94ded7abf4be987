/**
 * A tenant at full tilt: page requests over several connections, and basebackups one after the other, until it is killed.
 * `flood.ts <host> <port> <token> <tenant> <timeline> <relation as JSON>`; prints a line when it has begun.
 */
import { parseLsn } from "../../../src/common/lsn.ts";
import { PgClient } from "../../../src/pgwire/client.ts";
import { REQUEST_PAGES } from "../../../src/protocol/pagestream.ts";
import { PageStream } from "./page_stream.ts";

const CONNECTIONS = 8;
const IN_FLIGHT = 64;

const [host, port, password, tenant, timeline, relation] = process.argv.slice(2) as [string, ...string[]];
const { pages, ...names } = JSON.parse(relation!) as { pages: number; spc: number; db: number; rel: number };
const connect = () => PgClient.connect({ host, port: Number(port), user: "flood", password: password! });

for (let i = 0; i < CONNECTIONS; i++) {
  const stream = await PageStream.open({ connect }, { tenant: tenant!, timeline: timeline! });
  Object.assign(stream.request, names, { tag: REQUEST_PAGES, lsn: parseLsn("0/0"), fork: 0, count: 1 });
  let n = i;
  stream.onResponse = () => {
    stream.request.blkno = (n += 7) % pages;
    stream.send();
  };
  for (let j = 0; j < IN_FLIGHT; j++) stream.send();
}
console.log("flooding");
for (;;) {
  const client = await connect();
  for await (const _chunk of client.copyOut(`basebackup ${tenant} ${timeline}`));
  client.destroy();
}
