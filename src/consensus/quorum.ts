/** How many acceptors must agree, of how many there are. */
export function quorumOf(acceptorCount: number): number {
  return Math.floor(acceptorCount / 2) + 1;
}
