/** What a compute does, as a dot. */
export function StateDot({ state }: { readonly state: "awake" | "asleep" | "crashed" }) {
  return <span class={`dot is-${state}`} role="img" aria-label={state} title={state} />;
}
