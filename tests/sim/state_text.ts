/** Short texts for what a state consists of, by which equal states are known. */
import type { AcceptorMessage, ProposerMessage } from "../../src/consensus/messages.ts";
import type { TermHistory } from "../../src/consensus/term_history.ts";
import { RECORD_BYTES } from "./sim_log.ts";

/** Records by their term and number. */
export function contents(wal: Uint8Array): string {
  let text = "";
  for (let off = 0; off + RECORD_BYTES <= wal.length; off += RECORD_BYTES) {
    text += `${wal[off + 3]}.${wal[off + 7]} `;
  }
  return text;
}

export function formatHistory(history: TermHistory): string {
  return history.map(({ term, startLsn }) => `${term}@${startLsn}`).join(" ");
}

export function describeMessage(message: ProposerMessage | AcceptorMessage): string {
  switch (message.type) {
    case "ServerInfo":
    case "Greeting":
      return message.type;
    case "VoteRequest":
      return `v${message.term}`;
    case "VoteResponse":
      return `V${message.term},${message.granted},${message.flushLsn},${message.timelineStartLsn},` +
        formatHistory(message.history);
    case "ProposerElected":
      return `e${message.term},${message.startLsn},${formatHistory(message.history)}`;
    case "AppendRequest":
      return `a${message.term},${message.beginLsn},${message.commitLsn},${contents(message.bytes)}`;
    case "AppendResponse":
      return `A${message.term},${message.historyTerm},${message.flushLsn},${message.commitLsn}`;
  }
}

/** 53 bits of two 32-bit multiplicative hashes that run side by side. */
export function hash53(text: string): number {
  let a = 0xdeadbeef | 0;
  let b = 0x41c6ce57 | 0;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    a = Math.imul(a ^ code, 0x9e3779b1);
    b = Math.imul(b ^ code, 0x5f356495);
  }
  a = Math.imul(a ^ (a >>> 16), 0x85ebca6b) ^ Math.imul(b ^ (b >>> 13), 0xc2b2ae35);
  b = Math.imul(b ^ (b >>> 16), 0x85ebca6b) ^ Math.imul(a ^ (a >>> 13), 0xc2b2ae35);
  return (b >>> 0) * 0x20_0000 + (a >>> 11);
}
