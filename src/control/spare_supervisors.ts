/** Supervisors that are started ahead of need, and wait for a compute. */
import { SpareAhead } from "../process/spare_ahead.ts";

/** @param directory the environment's, where supervisors wait */
export function supervisorsAhead(directory: string): SpareAhead {
  return new SpareAhead(directory, ["compute", "--spares", directory, "--wait"]);
}
