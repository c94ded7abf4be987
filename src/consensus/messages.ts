/** What a proposer and an acceptor say to each other; `message_codec.ts` turns it into bytes. */
import type { TenantId, TimelineId } from "../common/id.ts";
import type { Lsn } from "../common/lsn.ts";
import type { TermHistory } from "./term_history.ts";

/** Rises with every incompatible change; an acceptor refuses a version that it does not know. */
export const WAL_ACCEPTOR_PROTOCOL_VERSION = 2;

/** The most WAL that one AppendRequest carries. */
export const APPEND_MAX_BYTES = 1 << 20;

/** What identifies a timeline's WAL, fixed for its life. */
export interface TimelineIdentity {
  readonly tenantId: TenantId;
  readonly timelineId: TimelineId;
  /** pg_control's system identifier, 64 bits unsigned. */
  readonly systemId: bigint;
  /** Postgres major version, e.g. 15. */
  readonly pgVersion: number;
  /** wal_segment_size in bytes. */
  readonly segmentSize: number;
}

export interface ServerInfo extends TimelineIdentity {
  readonly type: "ServerInfo";
  readonly protocolVersion: number;
  /**
   * Random, one per run of a proposer. It tells the acceptor which proposer was elected: without it
   * nobody can speak in that proposer's name.
   */
  readonly proposerId: string;
}

export interface Greeting {
  readonly type: "Greeting";
  readonly term: number;
  /** The safekeeper's configured number; for logs. */
  readonly acceptorId: number;
}

export interface VoteRequest {
  readonly type: "VoteRequest";
  readonly term: number;
}

export interface VoteResponse {
  readonly type: "VoteResponse";
  /** The acceptor's term, after the request. */
  readonly term: number;
  readonly granted: boolean;
  readonly flushLsn: Lsn;
  /** 0/0 while the acceptor has never had a log. */
  readonly timelineStartLsn: Lsn;
  readonly history: TermHistory;
}

export interface ProposerElected {
  readonly type: "ProposerElected";
  readonly term: number;
  /** This acceptor has the proposer's log at least up to here, by what its vote said. */
  readonly startLsn: Lsn;
  readonly timelineStartLsn: Lsn;
  readonly history: TermHistory;
}

export interface AppendRequest {
  readonly type: "AppendRequest";
  readonly term: number;
  /** Position of the first byte of `bytes`. */
  readonly beginLsn: Lsn;
  readonly commitLsn: Lsn;
  /** No acceptor needs WAL below this from another one. */
  readonly truncateLsn: Lsn;
  /** What the page server has made durable, as far as any acceptor knows. */
  readonly remoteConsistentLsn: Lsn;
  /** May end in the middle of a record. When empty, only the other fields are news. */
  readonly bytes: Uint8Array;
}

export interface AppendResponse {
  readonly type: "AppendResponse";
  readonly term: number;
  /**
   * The newest term of the acceptor's history. If it is the proposer's own term, the acceptor's log
   * is a prefix of the proposer's.
   */
  readonly historyTerm: number;
  readonly flushLsn: Lsn;
  /**
   * The log is durable up to here. Above flushLsn lies part of a record, which a crash would
   * remove.
   */
  readonly durableLsn: Lsn;
  readonly commitLsn: Lsn;
  /** What the page server has made durable, as far as this acceptor knows. */
  readonly remoteConsistentLsn: Lsn;
}

export type ProposerMessage = ServerInfo | VoteRequest | ProposerElected | AppendRequest;
export type AcceptorMessage = Greeting | VoteResponse | AppendResponse;
