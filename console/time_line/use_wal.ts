/** How much WAL a branch has written over the time that is shown, asked for once the pointer rests. */
import { useEffect, useRef, useState } from "preact/hooks";
import { call } from "../api.ts";
import { lsnToNumber, toRfc3339 } from "../format.ts";
import type { View } from "./scale.ts";

const REST_MS = 350;
const BARS = 32;
const MINUTE = 60_000;
const REMEMBERED = 50;

export interface WalBars {
  readonly from: number;
  /** How long a bar is, in milliseconds. */
  readonly each: number;
  /** Bytes a minute; null where that is not known. */
  readonly perMinute: readonly (number | null)[];
}

/** @param id undefined while nothing is pointed at */
export function useWal(tenant: string, id: string | undefined, view: View): WalBars | undefined {
  const known = useRef(new Map<string, WalBars>());
  const [found, setFound] = useState<{ key: string; bars: WalBars }>();
  // In steps, so that a view that moves or grows a little asks nothing new.
  const each = Math.round(2 ** (Math.ceil(Math.log2((view.to - view.from) / BARS) * 4) / 4));
  const from = Math.floor(view.from / each) * each;
  const bars = Math.ceil((view.to - from) / each);
  const key = `${id} ${from} ${each} ${bars}`;
  useEffect(() => {
    if (id === undefined) return;
    const before = known.current.get(key);
    if (before !== undefined) {
      setFound({ key, bars: before });
      return;
    }
    const stop = new AbortController();
    const timer = setTimeout(async () => {
      try {
        const { items } = await call("branchWal", { tenant, branch: id }, {
          query: { from: toRfc3339(from), to: toRfc3339(from + each * bars), points: String(bars + 1) },
          signal: stop.signal,
        });
        const lsns = items.map(({ lsn }) => lsn === null ? null : lsnToNumber(lsn));
        const perMinute = lsns.slice(1).map((lsn, i) => {
          const last = lsns[i]!;
          return lsn === null || last === null ? null : Math.max(0, lsn - last) / each * MINUTE;
        });
        const shown = { from, each, perMinute };
        if (known.current.size >= REMEMBERED) known.current.clear();
        known.current.set(key, shown);
        setFound({ key, bars: shown });
      } catch {
        // The LSN says what is wrong.
      }
    }, REST_MS);
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }, [tenant, key]);
  return found?.key === key ? found.bars : undefined;
}
