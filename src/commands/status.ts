import { ZenithError } from "../common/errors.ts";
import { formatHostPort } from "../common/host_port.ts";
import { allComputes } from "../control/computes.ts";
import { hasLocalPageServer, loadEnvironment, pageServerAddress } from "../control/environment.ts";
import { PageServerClient } from "../control/page_server_client.ts";
import { listSafekeepers } from "../control/safekeepers.ts";
import { type Command, EXIT_UNAVAILABLE } from "./command.ts";
import { print } from "./output.ts";

export const statusCommand: Command = {
  usage: "status",
  description: "Show whether the page server answers, and what it says of itself",
  async run() {
    const environment = loadEnvironment();
    const address = pageServerAddress(environment);
    const what = hasLocalPageServer(environment) ? "page server" : "remote page server";
    await using client = new PageServerClient(address);
    try {
      const status = await client.status();
      print(`${what} is running on ${formatHostPort(address)}`);
      print(JSON.stringify(status));
      return 0;
    } catch (error) {
      if (!(error instanceof ZenithError) || error.kind !== "unavailable") throw error;
      print(`${what} is not running on ${formatHostPort(address)}`);
      return EXIT_UNAVAILABLE;
    } finally {
      for (const { id, address, running } of listSafekeepers(environment)) {
        print(`safekeeper ${id} is ${running ? "" : "not "}running on ${formatHostPort(address)}`);
      }
      const computes = allComputes(environment);
      const running = computes.filter((compute) => compute.status === "running").length;
      print(`${running} of ${computes.length} Postgres running`);
    }
  },
};
