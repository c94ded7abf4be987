import { formatHostPort } from "../common/host_port.ts";
import { type Environment, loadEnvironment, pageServerAddress } from "../control/environment.ts";
import { startPageServer } from "../control/page_server_process.ts";
import type { Command } from "./command.ts";
import { print, Progress } from "./output.ts";

export const startCommand: Command = {
  usage: "start",
  description: "Start the page server",
  run: () => start(loadEnvironment()),
};

export async function start(environment: Environment): Promise<void> {
  using progress = new Progress("starting the page server");
  const { pid } = await startPageServer(environment, { onProgress: (text) => progress.update(text) });
  print(`page server started on ${formatHostPort(pageServerAddress(environment))}, process ${pid}`);
}
