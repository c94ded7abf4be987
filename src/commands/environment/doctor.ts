/** `zenith doctor`: checks that Zenith can run on this machine. */
import { checkMachine, type Finding } from "../../control/survey/checkup.ts";
import { type Command, EXIT_FAILED, JSON_OPTION } from "../cli/command.ts";
import { print, printJson, Progress } from "../cli/output.ts";

export const doctorCommand: Command = {
  usage: "doctor",
  description: "Check this machine: PostgreSQL, its user, ports, disk, what lazy computes need",
  options: [JSON_OPTION],
  examples: [["doctor", "The exit code is 1 when something fails; what is only missing is a warning"]],
  async run(_args, options) {
    let findings: Finding[];
    {
      using _progress = new Progress("looking at this machine");
      findings = await checkMachine();
    }
    if (options["json"] === true) printJson(findings);
    else findings.forEach(show);
    return findings.some(({ verdict }) => verdict === "fail") ? EXIT_FAILED : 0;
  },
};

function show({ check, verdict, found, fix }: Finding): void {
  print(`${verdict.padEnd(4)}  ${check}: ${found}`);
  if (fix !== null) print(`      fix: ${fix}`);
}
