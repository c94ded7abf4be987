/** From where a tenant lets clients in: addresses, networks and ranges. */
import { BlockList, isIP, isIPv6 } from "node:net";
import { errorMessage, ZenithError } from "../../common/errors.ts";

/** Whether an address is one of these, or in one of these networks or ranges. */
export function isAllowed(address: string, allowed: readonly string[]): boolean {
  const plain = address.replace(/^::ffff:(?=\d+\.)/, "");
  if (isIP(plain) === 0) return false;
  const list = new BlockList();
  for (const entry of allowed) addEntry(list, entry);
  return list.check(plain, familyOf(plain));
}

function familyOf(address: string): "ipv4" | "ipv6" {
  return isIPv6(address) ? "ipv6" : "ipv4";
}

/** @throws {ZenithError} `invalid_argument` unless it is an address, a network or a range */
export function addEntry(list: BlockList, entry: string): void {
  try {
    const [first = "", second] = entry.split(/[/-]/, 2);
    if (entry.includes("/")) list.addSubnet(first, prefixOf(second ?? ""), familyOf(first));
    else if (entry.includes("-")) list.addRange(first, second ?? "", familyOf(first));
    else list.addAddress(first, familyOf(first));
  } catch (error) {
    throw new ZenithError(
      "invalid_argument",
      `"${entry.slice(0, 100)}" is no address: ${errorMessage(error)}`,
      {
        hint: "expected 192.0.2.7, 192.0.2.0/24 or 192.0.2.1-192.0.2.9",
      },
    );
  }
}

function prefixOf(text: string): number {
  return /^\d{1,3}$/.test(text) ? Number(text) : Number.NaN;
}
