/** Data that a page shows, and asks for again now and then. */
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { access, AwayError, connection, toError } from "./api.ts";

export interface Polled<T> {
  /** The last answer; it stays while the server is away. */
  readonly data: T | undefined;
  /** What was wrong with the last request, unless nobody answered it: the page's header says that. */
  readonly error: Error | undefined;
  readonly reload: () => Promise<void>;
}

/**
 * @param every how often to ask again while the page can be seen, in milliseconds
 * @param key what the question depends on: another one starts anew
 */
export function usePoll<T>(
  ask: () => Promise<T>,
  every: number | ((data: T | undefined) => number),
  key: string,
): Polled<T> {
  const [state, setState] = useState<{ key: string; data?: T; error?: Error }>({ key });
  const asking = useRef(ask);
  asking.current = ask;
  const turn = useRef(0);
  /** The turn of the newest answer. Those before it are old, even if they come later. */
  const shown = useRef(0);
  const reload = useCallback(async () => {
    const mine = ++turn.current;
    try {
      const data = await asking.current();
      if (mine <= shown.current) return;
      shown.current = mine;
      setState({ key, data });
    } catch (error) {
      if (mine <= shown.current || error instanceof AwayError) return;
      shown.current = mine;
      setState((before) => ({
        ...(before.key === key ? before : {}),
        key,
        error: toError(error),
      }));
    }
  }, [key]);
  const again = useCallback(
    () => void (document.hidden || access.get().kind !== "in" || reload()),
    [reload],
  );
  useEffect(() => {
    again();
    // Whatever was down is up again, or somebody has come back.
    const unfollow = [
      connection.follow((state) => state === "there" && again()),
      access.follow(({ kind }) => kind === "in" && again()),
    ];
    document.addEventListener("visibilitychange", again);
    return () => {
      shown.current = turn.current;
      for (const stop of unfollow) stop();
      document.removeEventListener("visibilitychange", again);
    };
  }, [again]);
  const isCurrent = state.key === key;
  const data = isCurrent ? state.data : undefined;
  const everyMs = typeof every === "number" ? every : every(data);
  useEffect(() => {
    const timer = setInterval(again, everyMs);
    return () => clearInterval(timer);
  }, [again, everyMs]);
  return { data, error: isCurrent ? state.error : undefined, reload };
}

/** Runs what a button does, once at a time. */
export function useAction(): {
  readonly isBusy: boolean;
  readonly error: Error | undefined;
  readonly run: (work: () => Promise<void>) => Promise<void>;
} {
  const [isBusy, setBusy] = useState(false);
  const [error, setError] = useState<Error>();
  const run = async (work: () => Promise<void>) => {
    if (isBusy) return;
    setBusy(true);
    setError(undefined);
    try {
      await work();
    } catch (error) {
      setError(toError(error));
    } finally {
      setBusy(false);
    }
  };
  return { isBusy, error, run };
}
