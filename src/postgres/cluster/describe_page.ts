/** Prints the header and the line pointers of a page. */
import { formatLsn, lsnFromHalves } from "../../common/lsn.ts";
import { isPageNew, SIZE_OF_PAGE_HEADER } from "./page_layout.ts";

// PageHeaderData, src/include/storage/bufpage.h
const PD_LSN = 0;
const PD_CHECKSUM = 8;
const PD_FLAGS = 10;
const PD_LOWER = 12;
const PD_UPPER = 14;
const PD_SPECIAL = 16;
const PD_PAGESIZE_VERSION = 18;
const PD_PRUNE_XID = 20;

/** Line pointer states, src/include/storage/itemid.h. */
const LP_STATES = ["unused", "normal", "redirect", "dead"] as const;
const LP_REDIRECT = 2;

/**
 * A page for people to read: its header, then its line pointers, one per line. It shows only what
 * every kind of page has; what the items mean depends on the relation.
 *
 * @param page 8192 bytes
 */
export function describePage(page: Uint8Array): string[] {
  if (page.every((byte) => byte === 0)) return ["all zeros"];
  const view = new DataView(page.buffer, page.byteOffset, page.length);
  const u16 = (at: number): number => view.getUint16(at, true);
  const lsn = lsnFromHalves(view.getUint32(PD_LSN, true), view.getUint32(PD_LSN + 4, true));
  const lower = u16(PD_LOWER);
  const special = u16(PD_SPECIAL);
  const lines = [
    `pd_lsn ${formatLsn(lsn)}`,
    `pd_checksum ${u16(PD_CHECKSUM)}  pd_flags 0x${u16(PD_FLAGS).toString(16).padStart(4, "0")}`,
    `pd_lower ${lower}  pd_upper ${u16(PD_UPPER)}  pd_special ${special}`,
    `page size ${u16(PD_PAGESIZE_VERSION) & 0xff00}  layout version ${u16(PD_PAGESIZE_VERSION) & 0xff}`,
    `pd_prune_xid ${view.getUint32(PD_PRUNE_XID, true)}`,
  ];
  if (isPageNew(page)) return lines;
  const last = Math.min(lower, page.length - 3);
  for (let at = SIZE_OF_PAGE_HEADER, off = 1; at < last; at += 4, off++) {
    lines.push(describeItem(off, view.getUint32(at, true)));
  }
  if (special < page.length) lines.push(`special ${hex(page.subarray(special))}`);
  return lines;
}

function describeItem(off: number, raw: number): string {
  const state = (raw >>> 15) & 3;
  const name = `item ${off}: ${LP_STATES[state]}`;
  if (state === LP_REDIRECT) return `${name} to ${raw & 0x7fff}`;
  const length = raw >>> 17;
  return length === 0 ? name : `${name} ${length} bytes at ${raw & 0x7fff}`;
}

function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
