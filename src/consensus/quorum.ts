/** How many of so many acceptors must agree. */
export function quorumOf(acceptorCount: number): number {
  return Math.floor(acceptorCount / 2) + 1;
}
