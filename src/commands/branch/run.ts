/** `zenith run`: runs a command with a database of its own, which is removed afterwards. */
import { ZenithError } from "../../common/errors.ts";
import { connectionEnvironment, connectionUri } from "../../compute/postgres/postgres_conf.ts";
import { withPassword } from "../../compute/postgres/role_passwords.ts";
import { startCompute } from "../../control/computes.ts";
import { chooseTenant, loadEnvironment, pageServerAddress } from "../../control/environment.ts";
import { PageServerClient } from "../../control/page_server_client.ts";
import { type Command, optionText, requiredArg, TENANT_OPTION } from "../cli/command.ts";
import { Interruption } from "../cli/interruption.ts";
import { Progress } from "../cli/output.ts";
import { clientEnvironment } from "../../pg_install/client_environment.ts";
import { runProgram } from "../cli/program.ts";
import { SESSION_OPTIONS, sessionOf } from "../pg/uri.ts";
import {
  arrivedPoint,
  makeThrowAway,
  NOTHING_LEFT,
  type Place,
  removeThrowAway,
  type ThrowAway,
} from "./throw_away.ts";

export const runCommand: Command = {
  usage: "run <start>",
  description: "Run a command on a throw-away branch, with DATABASE_URL set",
  options: [
    TENANT_OPTION,
    ...SESSION_OPTIONS,
    { flags: "--keep-on-failure", description: "Leave the branch and its Postgres when the command fails" },
  ],
  rest: "<command> <its arguments>",
  completions: ["branch"],
  examples: [
    ["run main -- npm test", "Tests on a copy of main's data"],
    ["run main@-1h -- psql -c 'select count(*) from t'", "A look at an hour ago"],
    ["run main --keep-on-failure -- ./migrate.sh", "A migration's dry run, to look at when it fails"],
  ],
  async run(args, options, [program, ...programArgs]) {
    if (program === undefined) {
      throw new ZenithError("invalid_argument", "what is to run?", {
        hint: 'the command goes after "--": zenith run main -- npm test',
      });
    }
    const environment = loadEnvironment();
    const tenant = chooseTenant(environment, optionText(options, "tenantid"));
    await using client = new PageServerClient(pageServerAddress(environment));
    const place = { environment, client, tenant };
    using interruption = new Interruption(NOTHING_LEFT);
    const made = await makeStarted(place, requiredArg(args, 0), interruption);
    const { branch, compute } = made;
    const session = withPassword(compute.paths, sessionOf(options));
    let code: number | undefined;
    try {
      const connection = {
        ...connectionEnvironment(compute.address, session),
        DATABASE_URL: connectionUri(compute.address, session),
        ZENITH_BRANCH: branch.name,
      };
      code = await runProgram(program, programArgs, clientEnvironment(connection));
    } finally {
      if (code !== 0 && options["keepOnFailure"] === true) {
        process.stderr.write(
          `zenith: branch ${branch.name} is left for a look: zenith psql ${branch.name}\n` +
            `hint: remove it with "zenith branch delete ${branch.name} --stop"\n`,
        );
      } else await removeThrowAway(place, made);
    }
    return code;
  },
};

async function makeStarted(place: Place, start: string, interruption: Interruption): Promise<ThrowAway> {
  using progress = new Progress("making a branch");
  const made = await makeThrowAway(place, "run", await arrivedPoint(place, start));
  try {
    await startCompute(place.environment, made.compute, { onProgress: (text) => progress.update(text) });
    interruption.throwIfAsked();
  } catch (error) {
    await removeThrowAway(place, made);
    throw error;
  }
  return made;
}
