/** The ends of the audit logs of this machine: of the API, and of the page server. */
import { lastLines } from "../../control/log_file.ts";
import type { AuditEntry } from "../../process/audit_log.ts";
import type { WorkContext } from "./context.ts";

export type AuditSource = "api" | "page_server";

export interface AuditedChange extends AuditEntry {
  /** RFC 3339. */
  readonly time: string;
  /** Which server was asked. */
  readonly source: AuditSource;
}

/** Newest first. @param wanted undefined for both */
export function readAudit(
  context: WorkContext,
  wanted: AuditSource | undefined,
  limit: number,
): AuditedChange[] {
  const { paths } = context.environment();
  const files = [["api", paths.serveAuditLog], ["page_server", paths.pageserver.auditLog]] as const;
  return files
    .filter(([source]) => wanted === undefined || wanted === source)
    .flatMap(([source, file]) => entriesOf(lastLines(file, limit)?.text ?? "", source))
    .sort((a, b) => a.time < b.time ? 1 : -1)
    .slice(0, limit);
}

function entriesOf(text: string, source: AuditSource): AuditedChange[] {
  return text.split("\n").flatMap((line) => {
    try {
      return line === "" ? [] : [{ ...JSON.parse(line), source }];
    } catch {
      // A kill has torn it.
      return [];
    }
  });
}
