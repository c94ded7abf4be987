import { defineConfig } from "vitest/config";

// A setup file runs in the process of each test file, before it.
export default defineConfig({ test: { setupFiles: ["./branch.ts"] } });
