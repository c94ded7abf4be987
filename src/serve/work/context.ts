/** What every piece of work of the API needs. */
import type { Environment } from "../../control/environment.ts";
import { pageServerAddress } from "../../control/environment.ts";
import { PageServerClient } from "../../control/page_server_client.ts";
import type { Logger } from "../../process/log.ts";
import type { Fleet } from "../fleet/fleet.ts";
import type { Directory } from "../state/directory.ts";
import type { Operations } from "../state/operations.ts";
import type { Passwords } from "../state/passwords.ts";
import type { Tenants } from "../state/tenants.ts";

export interface WorkContext {
  readonly environment: () => Environment;
  readonly fleet: Fleet;
  readonly directory: Directory;
  readonly tenants: Tenants;
  readonly operations: Operations;
  readonly passwords: Passwords;
  readonly log: Logger;
  /** Where clients of Postgres connect: the domain, and the port. */
  readonly domain: string;
  readonly postgresPort: number;
}

/** Runs `work` with a connection to the page server of its own. */
export async function withPageServer<T>(
  { environment }: Pick<WorkContext, "environment">,
  work: (client: PageServerClient, environment: Environment) => Promise<T>,
): Promise<T> {
  const now = environment();
  await using client = new PageServerClient(pageServerAddress(now));
  return await work(client, now);
}
