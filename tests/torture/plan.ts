/** Which faults come, in which order and how hard: all of it from the seed. */
import type { Random } from "../harness/random.ts";

export type Fault =
  /** SIGKILL, and a new start when others have gone on without it for a while. */
  | { readonly kind: "kill page server"; readonly commits: number }
  | { readonly kind: "restart page server" }
  /** SIGSTOP, then SIGCONT: it hangs with its connections open. */
  | { readonly kind: "freeze page server"; readonly commits: number }
  | { readonly kind: "kill safekeeper"; readonly index: number; readonly commits: number }
  | { readonly kind: "restart safekeeper"; readonly index: number }
  | { readonly kind: "freeze safekeeper"; readonly index: number; readonly commits: number }
  | { readonly kind: "freeze supervisor"; readonly ms: number }
  | { readonly kind: "freeze postmaster"; readonly ms: number }
  /** One process of Postgres, inside a write if there is any; its supervisor starts it afresh. Then everything is checked. */
  | { readonly kind: "kill backend" }
  /** After these Postgres is started again and everything that was acknowledged has to be there. */
  | { readonly kind: "kill supervisor" }
  | { readonly kind: "kill postmaster" }
  | { readonly kind: "restart Postgres"; readonly mode: "fast" | "immediate" }
  /** All at the same moment. */
  | { readonly kind: "kill page server, a safekeeper and the postmaster"; readonly index: number }
  | { readonly kind: "collect garbage" };

/** Sorts of faults, each as often as it stands here. */
const SORTS: readonly ((random: Random, safekeepers: number) => Fault)[] = [
  (random) => ({ kind: "kill page server", commits: commits(random) }),
  (random) => ({ kind: "kill page server", commits: commits(random) }),
  () => ({ kind: "restart page server" }),
  (random) => ({ kind: "freeze page server", commits: commits(random) }),
  (random, n) => ({ kind: "kill safekeeper", index: random.int(n), commits: commits(random) }),
  (random, n) => ({ kind: "kill safekeeper", index: random.int(n), commits: commits(random) }),
  (random, n) => ({ kind: "restart safekeeper", index: random.int(n) }),
  (random, n) => ({ kind: "freeze safekeeper", index: random.int(n), commits: commits(random) }),
  (random) => ({ kind: "freeze supervisor", ms: 200 + random.int(2_000) }),
  (random) => ({ kind: "freeze postmaster", ms: 200 + random.int(2_000) }),
  () => ({ kind: "kill backend" }),
  () => ({ kind: "kill backend" }),
  () => ({ kind: "kill supervisor" }),
  () => ({ kind: "kill postmaster" }),
  (random) => ({ kind: "restart Postgres", mode: random.oneIn(2) ? "fast" : "immediate" }),
  (random, n) => ({ kind: "kill page server, a safekeeper and the postmaster", index: random.int(n) }),
  () => ({ kind: "collect garbage" }),
];

function commits(random: Random): number {
  return 20 + random.int(200);
}

/** Without end. */
export function* planFaults(random: Random, safekeepers: number): Generator<Fault, never> {
  for (;;) yield SORTS[random.int(SORTS.length)](random, safekeepers);
}

export function describeFault(fault: Fault): string {
  const { kind, ...details } = fault;
  const text = Object.entries(details).map(([name, value]) => `${name} ${value}`).join(", ");
  return text === "" ? kind : `${kind} (${text})`;
}
