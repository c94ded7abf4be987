/** The types of the API's contract, as the console has them. Nothing of it is in what is built. */
import type { GenericSchema, InferInput, InferOutput } from "valibot";
import type { API } from "../src/serve/api/contract.ts";

export type Name = keyof typeof API;

export type ResultOf<K extends Name> = (typeof API)[K] extends { result: infer S extends GenericSchema }
  ? InferOutput<S>
  : void;
export type BodyOf<K extends Name> = (typeof API)[K] extends { body: infer S extends GenericSchema }
  ? InferInput<S>
  : undefined;
export type QueryOf<K extends Name> = (typeof API)[K] extends { query: infer S extends GenericSchema }
  ? InferInput<S>
  : undefined;

export type Session = ResultOf<"session">;
export type ListedTenant = ResultOf<"tenantList">["items"][number];
export type Branch = ResultOf<"branchGet">;
export type BranchTimes = ResultOf<"tenantHistory">["items"][number];
export type TableDiff = ResultOf<"diffTables">["tables"][number];
export type RowsDiff = ResultOf<"diffRows">;
export type Token = ResultOf<"tokenList">["items"][number];
