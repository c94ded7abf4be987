/** How many files this process may open, and how connections and layers share them. */
import { readFileSync } from "node:fs";

/** The limit to assume if the kernel does not report one: the usual soft limit of a session. */
const OPEN_FILES_ASSUMED = 1024;

/**
 * How many descriptors this process may have open: RLIMIT_NOFILE, as it is now. Sockets and files
 * share them.
 */
export function openFilesLimit(): number {
  try {
    return parseOpenFilesLimit(readFileSync("/proc/self/limits", "utf8"));
  } catch {
    return OPEN_FILES_ASSUMED;
  }
}

/** The soft limit in the text of `/proc/self/limits`. */
export function parseOpenFilesLimit(text: string): number {
  const soft = /^Max open files +(\d+|unlimited)/m.exec(text)?.[1];
  if (soft === undefined) return OPEN_FILES_ASSUMED;
  return soft === "unlimited" ? Infinity : Number(soft);
}

/**
 * How many descriptors connections may take; the other half is for files: layers, WAL, logs, worker
 * threads.
 */
export const CONNECTIONS_SHARE = 1 / 2;

/** How many descriptors open layer files may take. */
export const LAYERS_SHARE = 1 / 4;
