/**
 * What the exhaustive search need not tell apart. Each rule is about one process and what it may hear, because processes
 * have nothing in common but what they say: what one does never hinders another.
 */
import { INVALID_LSN } from "../../src/common/lsn.ts";
import type { AcceptorState } from "../../src/consensus/acceptor.ts";
import type { AcceptorMessage, ProposerMessage, VoteResponse } from "../../src/consensus/messages.ts";
import type { ProposerState } from "../../src/consensus/proposer.ts";
import { historyTerm, type TermHistory } from "../../src/consensus/term_history.ts";
import { type Link, type Node, replaceAcceptor } from "./search_node.ts";
import { RECORD_BYTES } from "./sim_log.ts";
import { describeMessage } from "./state_text.ts";

/**
 * An AppendRequest as one that has its positions only and one for each record. The acceptor deals with the two apart, and with
 * records one after the other, so that hearing all pieces in a row is hearing the whole.
 */
export function pieces(message: ProposerMessage): ProposerMessage[] {
  if (message.type !== "AppendRequest") return [message];
  const none = { truncateLsn: INVALID_LSN, remoteConsistentLsn: INVALID_LSN };
  const parts: ProposerMessage[] = [];
  if (message.commitLsn !== INVALID_LSN) {
    parts.push({ ...message, ...none, beginLsn: INVALID_LSN, bytes: new Uint8Array(0) });
  }
  for (let off = 0; off < message.bytes.length; off += RECORD_BYTES) {
    const beginLsn = (message.beginLsn + off) as typeof message.beginLsn;
    const bytes = message.bytes.slice(off, off + RECORD_BYTES);
    parts.push({ ...message, ...none, commitLsn: INVALID_LSN, beginLsn, bytes });
  }
  return parts;
}

export type Heard =
  & { readonly a: number; readonly p: number }
  & (
    | { readonly to: "proposer"; readonly message: AcceptorMessage }
    | { readonly to: "acceptor"; readonly message: ProposerMessage }
  );

/**
 * Something that is heard as soon as it is said. To hear later what was confirmed, or never, makes a proposer commit
 * later and say less; to hear later what is committed makes an acceptor show less: whatever goes wrong then goes wrong now.
 */
export function hearAtOnce(node: Node): Heard | undefined {
  for (let a = 0; a < node.acceptors.length; a++) {
    const { state, toAcceptor, toProposer } = node.acceptors[a];
    for (let p = 0; p < node.proposers.length; p++) {
      const proposer = node.proposers[p].state;
      for (const message of toProposer[p].values()) {
        const isOwn = proposer.phase === "elected" && message.term === proposer.term;
        if (!isOwn) continue;
        if (message.type === "AppendResponse" || tellOneLog(toProposer[p], message)) {
          return { a, p, to: "proposer", message };
        }
      }
      for (const message of toAcceptor[p].values()) {
        if (message.type === "VoteRequest" && message.term === state.term) {
          const answer = denial(state);
          const isNews = !toProposer[p].has(describeMessage(answer)) &&
            !isNoiseToProposer(proposer, a, answer);
          if (isNews) return { a, p, to: "acceptor", message };
        }
        if (message.type !== "AppendRequest" || message.bytes.length > 0) continue;
        const isOwn = state.term === message.term && historyTerm(state.history) === message.term;
        if (isOwn) return { a, p, to: "acceptor", message };
      }
    }
  }
  return undefined;
}

/** Whether all answers of that term tell of the same log: it is the elected proposer's to change, but a sync may be under way. */
function tellOneLog(link: Link<AcceptorMessage>, { term }: AcceptorMessage): boolean {
  let log: VoteResponse | undefined;
  for (const message of link.values()) {
    if (message.type !== "VoteResponse" || message.term !== term) continue;
    log ??= message;
    if (message.flushLsn !== log.flushLsn || !isSameHistory(message.history, log.history)) return false;
  }
  return log !== undefined;
}

/** What an acceptor answers to a VoteRequest of a term that it is in already: the answer alone, nothing changes. */
function denial(state: AcceptorState): VoteResponse {
  const { term, flushLsn, timelineStartLsn, history } = state;
  return { type: "VoteResponse", term, granted: false, flushLsn, timelineStartLsn, history };
}

/**
 * Whether hearing something has only made the proposer say less from then on: it has stopped, knows of a newer term, or
 * has given up on a vote. Not to have heard it is searched anyway, and can do all that it can do now.
 */
export function isSilence(before: ProposerState, after: ProposerState): boolean {
  if (after.phase === "stopped") return true;
  if (after.phase !== before.phase || after.term !== before.term || after.commitLsn !== before.commitLsn) {
    return false;
  }
  return after.peers.every((peer, i) => {
    const was = before.peers[i];
    const isSamePhase = peer.phase === was.phase || (peer.phase === "greeted" && was.phase === "voting");
    return isSamePhase && peer.vote === was.vote && peer.flushLsn === was.flushLsn &&
      peer.nextLsn === was.nextLsn;
  });
}

/** Without what can't change its receiver any more, now and whatever it does: states that differ in it are one. */
export function forgetNoise(node: Node): Node {
  let result = node;
  node.acceptors.forEach((acceptor, a) => {
    const toAcceptor = acceptor.toAcceptor.map((link) =>
      filtered(link, (message) => !isNoiseToAcceptor(acceptor.state, message))
    );
    const toProposer = acceptor.toProposer.map((link, p) =>
      filtered(link, (message) => !isNoiseToProposer(node.proposers[p].state, a, message))
    );
    if (
      toAcceptor.some((link, p) => link !== acceptor.toAcceptor[p]) ||
      toProposer.some((link, p) => link !== acceptor.toProposer[p])
    ) {
      result = replaceAcceptor(result, a, { ...acceptor, toAcceptor, toProposer });
    }
  });
  return result;
}

function filtered<T>(link: Link<T>, keep: (message: T) => boolean): Link<T> {
  let rest: Map<string, T> | undefined;
  for (const [text, message] of link) {
    if (keep(message)) continue;
    rest ??= new Map(link);
    rest.delete(text);
  }
  return rest ?? link;
}

/** Terms only rise, and a log of the acceptor's own term only grows. */
function isNoiseToAcceptor(state: AcceptorState, message: ProposerMessage): boolean {
  if (message.type === "ServerInfo") return false;
  if (message.term !== state.term) return message.term < state.term;
  const hasLog = historyTerm(state.history) === message.term;
  switch (message.type) {
    case "VoteRequest":
      return false;
    case "ProposerElected":
      return hasLog;
    case "AppendRequest":
      return hasLog && (
        message.bytes.length === 0
          ? message.commitLsn <= state.knownCommitLsn
          : message.beginLsn + message.bytes.length <= state.writtenLsn
      );
  }
}

/** An elected proposer learns nothing from positions and votes that it is past; a campaigning one counts votes only. */
function isNoiseToProposer(state: ProposerState, a: number, message: AcceptorMessage): boolean {
  if (message.type === "Greeting") return false;
  if (state.phase === "stopped" || message.term < state.term) return true;
  const { phase, flushLsn } = state.peers[a];
  if (message.type === "VoteResponse") {
    return message.term === state.term && phase !== "voting" && phase !== "greeted";
  }
  // Of a newer term it would only hear that there is one.
  if (state.phase === "campaigning") return true;
  if (message.term !== state.term) return false;
  return message.historyTerm !== state.term || (phase === "streaming" && message.flushLsn <= flushLsn);
}

/** Whether both name the same terms, each with the same start. */
export function isSameHistory(a: TermHistory, b: TermHistory): boolean {
  return a.length === b.length &&
    a.every(({ term, startLsn }, i) => term === b[i].term && startLsn === b[i].startLsn);
}
