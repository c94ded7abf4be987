/** What a proposer and an acceptor say to each other; as bytes: `message_codec.ts`. */
import type { TenantId, TimelineId } from "../common/id.ts";
import type { Lsn } from "../common/lsn.ts";
import type { TermHistory } from "./term_history.ts";

/** Goes up with every incompatible change; an acceptor refuses what it does not know. */
export const WAL_ACCEPTOR_PROTOCOL_VERSION = 2;

/** The most WAL that one AppendRequest carries. */
export const APPEND_MAX_BYTES = 1 << 20;

/** What a timeline's WAL is, fixed for its life. */
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
   * Random, one per run of a proposer. By it the acceptor knows the proposer that was elected: whoever does not have it can't
   * speak in its name.
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
  /** Up to here at least this acceptor has the proposer's log, as far as its vote has told. */
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
  /** May end in the middle of a record. Empty: only the other fields are news. */
  readonly bytes: Uint8Array;
}

export interface AppendResponse {
  readonly type: "AppendResponse";
  readonly term: number;
  /** The newest term of the acceptor's history. When it is the proposer's, the acceptor's log is a prefix of the proposer's. */
  readonly historyTerm: number;
  readonly flushLsn: Lsn;
  /** Up to here it has the log durably; above flushLsn part of a record, which a crash takes away. */
  readonly durableLsn: Lsn;
  readonly commitLsn: Lsn;
  /** What the page server has made durable, as far as this acceptor knows. */
  readonly remoteConsistentLsn: Lsn;
}

export type ProposerMessage = ServerInfo | VoteRequest | ProposerElected | AppendRequest;
export type AcceptorMessage = Greeting | VoteResponse | AppendResponse;
