/** Prewarming: fetches pages that were hot at the last stop. */
import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { errorMessage, systemErrorCode } from "../../../common/errors.ts";
import type { Logger } from "../../../process/log.ts";
import { BLCKSZ } from "../../../postgres/cluster/page_layout.ts";
import type { Conditions } from "../../postgres/conditions.ts";
import type { ExpectedRead } from "../files/first_reads.ts";
import { decodeHotPages, encodeHotPages, type HotRange } from "./hot_pages.ts";
import type { PageFetcher, PageWaiter } from "./page_fetcher.ts";
import { wakeThread } from "../fuse/wake.ts";
import { WAKE_TO_PREWARM } from "./worker_messages.ts";

/** The waiter for pages that are only kept and go to no reader. */
export const NOBODY: PageWaiter = { keeps: true, deliver() {}, fail() {} };

export interface PrewarmerOptions {
  readonly hotPages: readonly HotRange[];
  readonly fetcher: PageFetcher;
  /** The mount's device. */
  readonly deviceFd: number;
  readonly conditions: Conditions;
  readonly log: Logger;
}

/**
 * Fetches hot pages ahead of need, a step at a time. The serving thread decides what a step is,
 * because it knows what is missing, and keeps what has arrived. It waits only for the kernel's
 * requests, so the kernel is made to send one.
 */
export class Prewarmer {
  readonly #options: PrewarmerOptions;
  #running = false;
  /** Set when the kernel no longer knew the file by which the thread should have been woken. */
  #isStuck = false;
  #fetchedBlocks = 0;

  constructor(options: PrewarmerOptions) {
    this.#options = options;
  }

  /** @param knownInode a regular file that the kernel knows, by which the thread can be woken */
  start(knownInode: number): void {
    const { hotPages, conditions } = this.#options;
    if (hotPages.length === 0) return;
    this.#running = true;
    const megabytes = Math.ceil(hotPages.reduce((sum, { count }) => sum + count, 0) * BLCKSZ / (1 << 20));
    conditions.set("prewarm", `prewarming: ${megabytes} MB were hot at the last stop`);
    this.#wakeThread(knownInode);
  }

  /** Notes that Postgres misses a part of this file, which means that the kernel knows it. */
  noteMiss(inode: number): void {
    if (this.#running && this.#isStuck) this.#wakeThread(inode);
  }

  /** Fetches what the serving thread has listed when it was woken. */
  async step(reads: readonly ExpectedRead[], knownInode: number): Promise<void> {
    if (!this.#running) return;
    const { fetcher, log } = this.#options;
    if (reads.length === 0) {
      this.stop();
      log.info("prewarmed", { pages: this.#fetchedBlocks });
      return;
    }
    for (const { inode, remote, block, blocks } of reads) {
      this.#fetchedBlocks += blocks;
      fetcher.fetch(inode, remote, block, blocks, NOBODY);
    }
    // Postgres comes first: fetch no more while it waits for a page itself.
    await fetcher.whenIdle();
    if (this.#running) this.#wakeThread(knownInode);
  }

  stop(): void {
    this.#running = false;
    this.#options.conditions.set("prewarm", undefined);
  }

  #wakeThread(knownInode: number): void {
    this.#isStuck = !wakeThread(this.#options.deviceFd, knownInode, WAKE_TO_PREWARM);
  }
}

/** Reads what was hot at the last stop, as far as it is known. */
export function readHotPages(path: string, log: Logger): HotRange[] {
  try {
    return decodeHotPages(readFileSync(path));
  } catch (error) {
    if (systemErrorCode(error) !== "ENOENT") log.warn(`${path} is of no use: ${errorMessage(error)}`);
    return [];
  }
}

/** Saves what is hot for the next start. This is only a hint, so a failure is just logged. */
export function saveHotPages(path: string, hotPages: readonly HotRange[], log: Logger): void {
  try {
    writeFileSync(`${path}.tmp`, encodeHotPages(hotPages));
    renameSync(`${path}.tmp`, path);
  } catch (error) {
    log.warn(`what is hot is not noted: ${errorMessage(error)}`);
  }
}
