/** What is simulated: the production state machines, or, to prove that the checker can fail, ones with a bug in them. */
import { stepAcceptor } from "../../src/consensus/acceptor.ts";
import { stepProposer } from "../../src/consensus/proposer.ts";

export interface Machines {
  readonly stepAcceptor: typeof stepAcceptor;
  readonly stepProposer: typeof stepProposer;
}

export const PRODUCTION: Machines = { stepAcceptor, stepProposer };
