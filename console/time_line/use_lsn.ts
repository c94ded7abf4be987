/** The LSN of a moment, asked for once the pointer rests. */
import { useEffect, useState } from "preact/hooks";
import { ApiError, call } from "../api.ts";
import type { Branch } from "../contract.ts";
import { toRfc3339 } from "../format.ts";

const REST_MS = 120;

export interface FoundLsn {
  readonly text: string;
  /** Whether the text says why there is none. */
  readonly isProblem: boolean;
  /** Undefined until it is known. */
  readonly lsn: string | undefined;
}

const PENDING: FoundLsn = { text: "…", isProblem: false, lsn: undefined };

/** @param at in milliseconds since 1970; undefined for the branch's end */
export function useLsn(
  tenant: string,
  branch: Branch | undefined,
  at: number | undefined,
  now: number,
): FoundLsn {
  const [found, setFound] = useState<FoundLsn>(PENDING);
  const id = branch?.id;
  const isEnd = at === undefined || at >= now;
  useEffect(() => {
    if (id === undefined || isEnd) return;
    setFound(PENDING);
    const stop = new AbortController();
    const timer = setTimeout(() => {
      call("branchLsn", { tenant, branch: id }, {
        query: { time: toRfc3339(at) },
        signal: stop.signal,
      }).then(
        ({ lsn }) => setFound({ text: lsn, isProblem: false, lsn }),
        (error) => {
          if (stop.signal.aborted) return;
          const text = error instanceof ApiError ? short(error.message) : "no answer";
          setFound({ text, isProblem: true, lsn: undefined });
        },
      );
    }, REST_MS);
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }, [tenant, id, isEnd ? undefined : at]);
  if (branch !== undefined && isEnd) {
    return { text: branch.last_lsn, isProblem: false, lsn: branch.last_lsn };
  }
  return found;
}

/** What matters beside a pointer. */
function short(message: string): string {
  if (/is before the history/.test(message)) return "before its history";
  if (/no longer kept|has been removed|was removed/.test(message)) return "no longer kept";
  return message;
}
