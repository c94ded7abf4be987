/** Claims the pid file that it is given, says what came of it, and keeps it until its standard input ends. */
import { errorMessage } from "../../../src/common/errors.ts";
import { claimPidFile } from "../../../src/process/pid_file.ts";

try {
  const claim = claimPidFile(process.argv[2]);
  process.stdin.on("end", () => claim.release());
  console.log("claimed");
} catch (error) {
  console.log(errorMessage(error));
}
process.stdin.resume();
