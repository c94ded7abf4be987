/**
 * WAL a minute as bars, by its square root: what is little beside much can still be seen. The bar
 * under the pointer has another colour.
 */
import { formatBytes } from "../format.ts";
import type { WalBars } from "./use_wal.ts";

const WIDTH = 204;
const HEIGHT = 34;

export function WalChart({ bars, at }: { readonly bars: WalBars; readonly at: number }) {
  const { from, each, perMinute } = bars;
  const most = perMinute.reduce<number>((max, value) => Math.max(max, value ?? 0), 0);
  const chosen = Math.min(Math.floor((at - from) / each), perMinute.length - 1);
  const value = perMinute[chosen];
  const width = WIDTH / perMinute.length;
  return (
    <>
      <svg class="tl-wal" width={WIDTH} height={HEIGHT} viewBox={`0 0 ${WIDTH} ${HEIGHT}`}>
        {perMinute.map((value, i) => {
          const height = value === null || most === 0
            ? 0
            : Math.max(Math.sqrt(value / most) * HEIGHT, value > 0 ? 1.5 : 0);
          return (
            <rect
              key={i}
              class={i === chosen ? "is-chosen" : ""}
              x={i * width}
              y={HEIGHT - Math.max(height, 0.75)}
              width={Math.max(width - 1, 1)}
              height={Math.max(height, 0.75)}
            />
          );
        })}
      </svg>
      <span>
        {value === undefined || value === null ? "WAL not known" : `${formatBytes(value)} of WAL a minute`}
      </span>
    </>
  );
}
