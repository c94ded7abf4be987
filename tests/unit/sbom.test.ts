import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { billOfMaterials } from "../../scripts/sbom.ts";

const { dependencies, devDependencies } = JSON.parse(
  readFileSync(join(import.meta.dirname!, "..", "..", "package.json"), "utf8"),
);

test("the bill of materials has every package that is in the executable, and is always the same", () => {
  const runtime = { name: "@oven/bun-linux-x64", version: devDependencies.bun };
  const text = billOfMaterials([runtime]);
  assert.equal(billOfMaterials([runtime]), text);
  const { bomFormat, specVersion, components } = JSON.parse(text);
  assert.deepEqual([bomFormat, specVersion], ["CycloneDX", "1.5"]);
  const found = new Map<string, { version: string; hashes: unknown[] }>(
    components.map((component: { name: string }) => [component.name, component]),
  );
  for (const [name, version] of Object.entries({ ...dependencies, [runtime.name]: runtime.version })) {
    assert.equal(found.get(name)?.version, version, name);
    assert.equal(found.get(name)?.hashes.length, 1, name);
  }
  assert.ok(!found.has("typescript"), "what only builds and tests need is not inside");
});
