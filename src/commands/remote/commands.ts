/** What each command does when it is for a server elsewhere. */
import { readFileSync } from "node:fs";
import { ioError, ZenithError } from "../../common/errors.ts";
import { type BranchName, parseBranchName, type TenantId } from "../../common/id.ts";
import { keptName } from "../branch/restore.ts";
import { EXIT_FAILED, optionText, type OptionValues, requiredArg } from "../cli/command.ts";
import { confirmOnTerminal } from "../cli/ask.ts";
import { type Column, formatBytes, formatTable, print, printJson, printList } from "../cli/output.ts";
import type { RemoteClient, ResultOf } from "./client.ts";

type Branch = ResultOf<"branchGet">;
type Args = readonly (string | undefined)[];

export interface RemoteCommand {
  /** The options that it takes, by camel-cased names; the others say that they can't be used. */
  readonly takes: readonly string[];
  run(client: RemoteClient, args: Args, options: OptionValues): Promise<number | void>;
}

/** The branch that a command means when none is named. */
const DEFAULT_BRANCH = "main";

const COLUMNS: readonly Column<Branch>[] = [
  { title: "BRANCH", cell: ({ name }) => name },
  {
    title: "FROM",
    cell: ({ parent_name, parent_lsn }) => parent_name === null ? "" : `${parent_name}@${parent_lsn}`,
  },
  { title: "LSN", cell: ({ last_lsn }) => last_lsn },
  { title: "DATA", cell: ({ logical_size_bytes }) => formatBytes(logical_size_bytes) },
  { title: "POSTGRES", cell: ({ compute }) => compute.state },
  {
    title: "EXPIRES",
    cell: (branch) => branch.protected ? "never (protected)" : branch.expires_at ?? "never",
  },
];

/** Of tenants' branches, with the path that most requests have. */
async function ofBranch(client: RemoteClient, options: OptionValues, name: string | undefined) {
  const tenant = await client.tenant(options);
  return { tenant, branch: name ?? DEFAULT_BRANCH };
}

function show(options: OptionValues, value: unknown, line: string): void {
  if (options["json"] === true) printJson(value);
  else print(line);
}

async function listBranches(client: RemoteClient, options: OptionValues): Promise<void> {
  const branches = await client.all("branchList", { tenant: await client.tenant(options) });
  printList(branches, COLUMNS, (branch) => branch, options);
}

async function makeBranch(client: RemoteClient, name: string, start: string, options: OptionValues) {
  const tenant = await client.tenant(options);
  const expires = optionText(options, "expires");
  const branch = await client.call("branchCreate", {
    params: { tenant },
    body: { name: parseBranchName(name), start, ...(expires === undefined ? {} : { expires_in: expires }) },
  });
  if (options["start"] === true) {
    await client.call("computeStart", { params: { tenant, branch: branch.id } });
  }
  show(
    options,
    branch,
    `branch ${name} created at ${branch.parent_lsn}; zenith uri ${name} says how to connect`,
  );
}

async function restored(
  client: RemoteClient,
  tenant: TenantId,
  name: BranchName,
  options: OptionValues,
  said: string,
) {
  const branch = await client.call("branchGet", { params: { tenant, branch: name } });
  show(options, branch, said);
}

function setting(body: { protected: boolean }, word: string): RemoteCommand {
  return {
    takes: ["tenantid"],
    async run(client, args, options) {
      const params = await ofBranch(client, options, requiredArg(args, 0));
      await client.call("branchUpdate", { params, body });
      print(`branch ${params.branch} ${word}`);
    },
  };
}

export const REMOTE_COMMANDS: Readonly<Record<string, RemoteCommand>> = {
  status: {
    takes: ["json"],
    async run(client, _args, options) {
      const status = await client.call("status");
      const { problems } = await client.call("health");
      if (options["json"] === true) printJson({ ...status, health: problems });
      else {
        for (const { name, running, address } of status.servers) {
          print(`${name} ${running ? "runs" : "does not run"} on ${address}`);
        }
        print(`${status.computes_awake} computes awake, ${status.sessions} sessions`);
        for (const { what, hint } of problems) print(`problem: ${what}\n  hint: ${hint}`);
      }
      return problems.some(({ down }) => down) ? 3 : 0;
    },
  },
  branch: {
    takes: ["tenantid", "expires", "start", "json"],
    async run(client, [name, start], options) {
      if (name === undefined) return await listBranches(client, options);
      await makeBranch(client, name, start ?? DEFAULT_BRANCH, options);
    },
  },
  "branch create": {
    takes: ["tenantid", "name", "parent", "expires", "start", "json"],
    async run(client, [name, start], options) {
      const wanted = name ?? optionText(options, "name");
      if (wanted === undefined) throw new ZenithError("invalid_argument", "what is the branch to be called?");
      await makeBranch(client, wanted, start ?? optionText(options, "parent") ?? DEFAULT_BRANCH, options);
    },
  },
  "branch list": {
    takes: ["tenantid", "json"],
    run: (client, _args, options) => listBranches(client, options),
  },
  "branch get": {
    takes: ["tenantid", "json"],
    async run(client, args, options) {
      const branch = await client.call("branchGet", {
        params: await ofBranch(client, options, requiredArg(args, 0)),
      });
      printList([branch], COLUMNS, (branch) => branch, options);
    },
  },
  "branch delete": {
    takes: ["tenantid", "stop", "cascade", "yes"],
    async run(client, args, options) {
      const params = await ofBranch(client, options, requiredArg(args, 0));
      const { compute } = await client.call("branchGet", { params });
      if (compute.sessions > 0 && options["stop"] !== true) {
        throw new ZenithError("conflict", `${compute.sessions} sessions use branch ${params.branch}`, {
          hint: "let --stop end them",
        });
      }
      const cascade = options["cascade"] === true;
      if (cascade) await confirmOnTerminal(`Delete ${params.branch} and all that comes from it?`, options);
      const query = { cascade: cascade ? "true" as const : "false" as const };
      const { deleted } = await client.call("branchDelete", { params, query });
      for (const name of deleted) print(`branch ${name} deleted`);
    },
  },
  "branch reset": {
    takes: ["tenantid", "keepAs", "json"],
    async run(client, args, options) {
      const name = parseBranchName(requiredArg(args, 0));
      const tenant = await client.tenant(options);
      const keepAs = optionText(options, "keepAs");
      await client.run("branchReset", {
        params: { tenant, branch: name } as { tenant: string },
        body: keepAs === undefined ? {} : { keep_as: keepAs },
      }, `resetting ${name}`);
      await restored(client, tenant, name, options, `branch ${name} is as its parent is`);
    },
  },
  "branch restore": {
    takes: ["tenantid", "keepAs", "discard", "json"],
    async run(client, args, options) {
      const name = parseBranchName(requiredArg(args, 0));
      const tenant = await client.tenant(options);
      const source = requiredArg(args, 1).replace(/^(?:\^self)?(?=@)/, name);
      const keepAs = options["discard"] === true
        ? undefined
        : optionText(options, "keepAs") ?? keptName(name, new Date());
      await client.run("branchRestore", {
        params: { tenant, branch: name } as { tenant: string },
        body: { source, ...(keepAs === undefined ? {} : { keep_as: keepAs }) },
      }, `restoring ${name}`);
      const kept = keepAs === undefined ? "" : `; what it was is branch ${keepAs}`;
      await restored(client, tenant, name, options, `branch ${name} is as ${source} was${kept}`);
    },
  },
  "branch rename": {
    takes: ["tenantid"],
    async run(client, args, options) {
      const params = await ofBranch(client, options, requiredArg(args, 0));
      const name = parseBranchName(requiredArg(args, 1));
      await client.call("branchUpdate", { params, body: { name } });
      print(`branch ${params.branch} is ${name} now`);
    },
  },
  "branch set-expiry": {
    takes: ["tenantid"],
    async run(client, args, options) {
      const params = await ofBranch(client, options, requiredArg(args, 0));
      const text = requiredArg(args, 1);
      const body = { expires_in: text === "never" ? null : text };
      const { expires_at } = await client.call("branchUpdate", { params, body });
      print(
        `branch ${params.branch} ${expires_at === null ? "does not expire" : `expires at ${expires_at}`}`,
      );
    },
  },
  "branch protect": setting({ protected: true }, "is protected"),
  "branch unprotect": setting({ protected: false }, "is not protected any more"),
  "lsn-at": {
    takes: ["tenantid"],
    async run(client, args, options) {
      const params = await ofBranch(client, options, requiredArg(args, 0));
      print((await client.call("branchLsn", { params, query: { time: requiredArg(args, 1) } })).lsn);
    },
  },
  "pg list": {
    takes: ["tenantid", "json"],
    run: (client, _args, options) => listBranches(client, options),
  },
  "pg start": {
    takes: ["tenantid", "json"],
    async run(client, args, options) {
      const params = await ofBranch(client, options, requiredArg(args, 0));
      const compute = await client.call("computeStart", { params });
      show(options, compute, `Postgres of branch ${params.branch} is ${compute.state} on ${compute.host}`);
    },
  },
  "pg stop": {
    takes: ["tenantid", "mode"],
    async run(client, args, options) {
      const params = await ofBranch(client, options, requiredArg(args, 0));
      const mode = optionText(options, "mode") === "immediate" ? "immediate" : "fast";
      const { state } = await client.call("computeStop", { params, body: { mode } });
      print(`Postgres of branch ${params.branch} is ${state}`);
    },
  },
  uri: {
    takes: ["tenantid", "db", "role", "json"],
    async run(client, [name], options) {
      const uri = await uriOf(client, name, options);
      show(options, { DATABASE_URL: uri }, uri);
    },
  },
  sql: {
    takes: ["tenantid", "db", "role", "command", "file", "json", "csv"],
    async run(client, [name], options) {
      const text = statementOf(options);
      return await runSql(client, await uriOf(client, name, options), text, options);
    },
  },
  "tenant list": {
    takes: ["json"],
    async run(client, _args, options) {
      const tenants = await client.all("tenantList");
      if (options["json"] === true) printJson(tenants);
      else for (const { id } of tenants) print(id);
    },
  },
  "tenant create": {
    takes: ["pgVersion", "json"],
    async run(client, [id], options) {
      const major = optionText(options, "pgVersion");
      const tenant = await client.call("tenantCreate", {
        body: {
          ...(id === undefined ? {} : { id }),
          ...(major === undefined ? {} : { pg_version: Number(major) }),
        },
      });
      show(options, tenant, `tenant ${tenant.id} created, PostgreSQL ${tenant.pg_version}`);
    },
  },
  "tenant delete": {
    takes: ["yes"],
    async run(client, args, options) {
      const tenant = requiredArg(args, 0);
      await confirmOnTerminal(`Delete tenant ${tenant} with all its branches?`, options);
      await client.call("tenantDelete", { params: { tenant } });
      print(`tenant ${tenant} deleted`);
    },
  },
  "token list": {
    takes: ["json"],
    async run(client, _args, options) {
      const columns: Column<ResultOf<"tokenList">["items"][number]>[] = [
        { title: "ID", cell: ({ id }) => id },
        { title: "FOR", cell: ({ name }) => name },
        { title: "SCOPE", cell: ({ scope }) => scope },
        { title: "STATE", cell: ({ state }) => state },
      ];
      printList(await client.all("tokenList"), columns, (token) => token, options);
    },
  },
  "token revoke": {
    takes: [],
    async run(client, args) {
      const token = requiredArg(args, 0);
      await client.call("tokenRevoke", { params: { token } });
      print(`token ${token} revoked`);
    },
  },
};

async function uriOf(client: RemoteClient, name: string | undefined, options: OptionValues): Promise<string> {
  const params = await ofBranch(client, options, name);
  const [role, database] = [optionText(options, "role"), optionText(options, "db")];
  const query = { ...(role === undefined ? {} : { role }), ...(database === undefined ? {} : { database }) };
  return (await client.call("computeUri", { params, query })).uri;
}

/** @throws {ZenithError} `invalid_argument`, `io` */
function statementOf(options: OptionValues): string {
  const [command, file] = [optionText(options, "command"), optionText(options, "file")];
  if ((command === undefined) === (file === undefined)) {
    throw new ZenithError("invalid_argument", "name the statement with -c, or a file of it with -f");
  }
  if (command !== undefined) return command;
  try {
    return readFileSync(file === "-" ? 0 : file!, "utf8");
  } catch (error) {
    throw ioError("read", file === "-" ? "standard input" : file!, error);
  }
}

/** What `POST /sql` answers in array mode. */
interface SqlAnswer {
  readonly command: string;
  readonly rowCount: number | null;
  readonly fields: readonly { readonly name: string }[];
  readonly rows: readonly (readonly (string | null)[])[];
}

async function runSql(client: RemoteClient, uri: string, text: string, options: OptionValues) {
  let answer: SqlAnswer;
  try {
    answer = await client.sql(uri, text) as SqlAnswer;
  } catch (error) {
    if (!(error instanceof ZenithError) || error.kind === "unavailable") throw error;
    process.stderr.write(`ERROR: ${error.message}\n`);
    if (error.hint !== undefined) process.stderr.write(`hint: ${error.hint}\n`);
    return EXIT_FAILED;
  }
  const { command, rowCount, rows } = answer;
  const names = answer.fields.map(({ name }) => name);
  if (options["json"] === true) {
    printJson(rows.map((row) => Object.fromEntries(row.map((value, i) => [names[i], value]))));
  } else if (names.length === 0) {
    if (options["csv"] !== true) print(rowCount === null ? command : `${command} ${rowCount}`);
  } else if (options["csv"] === true) {
    for (const row of [names, ...rows]) print(row.map(csvField).join(","));
  } else {
    for (const line of formatTable([names, ...rows.map((row) => row.map((value) => value ?? ""))])) {
      print(line);
    }
  }
  return 0;
}

function csvField(value: string | null): string {
  if (value === null) return "";
  return value === "" || /[",\n\r]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value;
}
