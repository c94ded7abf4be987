/**
 * Which numbers from others an acceptor and a proposer believe. A number that no honest sender can
 * have is refused on arrival, before anything is derived from it: what becomes state stays, and
 * other numbers are computed from it.
 */
import { assert } from "../common/assert.ts";
import { ZenithError } from "../common/errors.ts";
import { formatLsn, INVALID_LSN, MAX_LSN } from "../common/lsn.ts";
import type {
  AcceptorMessage,
  AppendRequest,
  AppendResponse,
  ProposerElected,
  TimelineIdentity,
  VoteResponse,
} from "./messages.ts";
import { formatTermHistory, historyTerm, isTermHistory, TERM_HISTORY_MAX_LENGTH } from "./term_history.ts";

/** The highest term. No election could follow it, so nobody may get near it. */
export const TERM_MAX = 2 ** 52;

/**
 * How far one message can raise an acceptor's term. A proposer that is further ahead raises it in
 * steps. Each step costs a durable write at the acceptor, and it takes 2^42 of them to reach
 * {@link TERM_MAX}.
 */
export const TERM_STEP_MAX = 1024;

assert(TERM_MAX / TERM_STEP_MAX >= 2 ** 42, "nobody can drive a term up to its end");
assert(TERM_MAX < Number.MAX_SAFE_INTEGER - TERM_HISTORY_MAX_LENGTH, "terms are exact numbers");

/**
 * Why a proposer's message can't have this term, for an acceptor in `current`; undefined when it
 * can.
 */
export function termProblem(current: number, term: number): string | undefined {
  if (!Number.isSafeInteger(term) || term < 1 || term > TERM_MAX) {
    return `term ${term} is outside 1..${TERM_MAX}`;
  }
  if (term > current + TERM_STEP_MAX) {
    return `term ${term} is more than ${TERM_STEP_MAX} above this safekeeper's, ${current}`;
  }
  return undefined;
}

/** What contradicts itself in an election's numbers; undefined when nothing does. */
export function electionProblem(message: ProposerElected): string | undefined {
  const { history, timelineStartLsn, term } = message;
  if (!isTermHistory(history)) return `malformed history ${formatTermHistory(history)}`;
  if (historyTerm(history) !== term) return `its history ends otherwise, ${formatTermHistory(history)}`;
  if (history[0].startLsn < timelineStartLsn || timelineStartLsn === INVALID_LSN) {
    return `its history begins before its start at ${formatLsn(timelineStartLsn)}`;
  }
  return undefined;
}

/** What is impossible in an AppendRequest; undefined when nothing is. */
export function appendProblem({ beginLsn, bytes }: AppendRequest): string | undefined {
  return beginLsn + bytes.length > MAX_LSN
    ? `${bytes.length} bytes of WAL at ${formatLsn(beginLsn)} end beyond ${formatLsn(MAX_LSN)}`
    : undefined;
}

/**
 * Refuses what no acceptor can say.
 *
 * @throws {ZenithError} `protocol`; `conflict` for a term that was driven up, which can be repaired
 */
export function checkAcceptorMessage(message: AcceptorMessage): void {
  const { term } = message;
  if (!Number.isSafeInteger(term) || term < 0 || term > TERM_MAX) {
    throw new ZenithError(
      "conflict",
      `the safekeeper is in term ${term}, where no election can be won any more`,
      {
        hint: `its term was driven up; "zenith safekeeper repair-term <branch>" sets it back`,
      },
    );
  }
  if (message.type === "VoteResponse") checkVote(message);
  if (message.type === "AppendResponse") checkPositions(message);
}

function checkPositions({ term, historyTerm: logTerm, flushLsn, durableLsn }: AppendResponse): void {
  if (logTerm > term) throw new ZenithError("protocol", `a log of term ${logTerm} in term ${term}`);
  if (durableLsn < flushLsn) {
    throw new ZenithError(
      "protocol",
      `a log that ends at ${formatLsn(flushLsn)} and is durable up to ${formatLsn(durableLsn)}`,
    );
  }
}

function checkVote({ term, history, timelineStartLsn, flushLsn }: VoteResponse): void {
  if (historyTerm(history) > term || !isTermHistory(history)) {
    throw new ZenithError(
      "protocol",
      `a history in term ${term} that can't be one, ${formatTermHistory(history)}`,
    );
  }
  if (flushLsn < timelineStartLsn || (timelineStartLsn === INVALID_LSN && flushLsn !== INVALID_LSN)) {
    throw new ZenithError(
      "protocol",
      `a log that ends at ${formatLsn(flushLsn)} and begins at ${formatLsn(timelineStartLsn)}`,
    );
  }
}

/**
 * What does not match between a proposer's greeting and the timeline that it wants to write;
 * undefined when everything matches.
 */
export function identityMismatch(
  identity: TimelineIdentity,
  info: TimelineIdentity,
): ZenithError | undefined {
  const differs = (what: string, theirs: unknown, ours: unknown): ZenithError =>
    new ZenithError(
      "conflict",
      `timeline ${identity.timelineId} of tenant ${identity.tenantId} has ${what} ${ours}, the compute has ${theirs}`,
      { hint: "this compute was not started from that timeline" },
    );
  if (info.tenantId !== identity.tenantId) return differs("tenant id", info.tenantId, identity.tenantId);
  if (info.timelineId !== identity.timelineId) return differs("id", info.timelineId, identity.timelineId);
  if (info.systemId !== identity.systemId) {
    return differs("system identifier", info.systemId, identity.systemId);
  }
  if (info.pgVersion !== identity.pgVersion) {
    return differs("Postgres version", info.pgVersion, identity.pgVersion);
  }
  if (info.segmentSize !== identity.segmentSize) {
    return differs("WAL segment size", info.segmentSize, identity.segmentSize);
  }
  return undefined;
}
