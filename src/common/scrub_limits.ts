/** Default limits for the check of data at rest. */

/** How many bytes a role reads per second by default: a small part of what any disk can deliver. */
export const SCRUB_BYTES_PER_S_DEFAULT = 4 << 20;

/** How long it rests by default between two passes over everything. */
export const SCRUB_PAUSE_MS_DEFAULT = 6 * 60 * 60 * 1000;
