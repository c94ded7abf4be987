/** How many files this process may open, and how connections and layers share that number. */
import { readFileSync } from "node:fs";

/** The limit to assume if the kernel does not report one: the usual soft limit of a session. */
const OPEN_FILES_ASSUMED = 1024;

/**
 * How many descriptors this process may have open: its current RLIMIT_NOFILE. Sockets and files
 * share it.
 */
export function openFilesLimit(): number {
  try {
    return parseOpenFilesLimit(readFileSync("/proc/self/limits", "utf8"));
  } catch {
    return OPEN_FILES_ASSUMED;
  }
}

/** Parses the soft limit from the text of `/proc/self/limits`. */
export function parseOpenFilesLimit(text: string): number {
  const soft = /^Max open files +(\d+|unlimited)/m.exec(text)?.[1];
  if (soft === undefined) return OPEN_FILES_ASSUMED;
  return soft === "unlimited" ? Infinity : Number(soft);
}

/**
 * The share of descriptors that connections may take. The other half is for files: layers, WAL,
 * logs, worker threads.
 */
export const CONNECTIONS_SHARE = 1 / 2;

/** The share of descriptors that open layer files may take. */
export const LAYERS_SHARE = 1 / 4;
