// Owns: how tests run. A folder name picks them: `npx vitest run test/unit`.
import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    environment: "node",
    // A file is a process: a stuck VM thread or a leaked database ends with it.
    pool: "forks",
    maxWorkers: 2,
    testTimeout: 30_000,
    hookTimeout: 60_000,
    // Compiled code runs as the service runs it, untransformed; its threads find their files.
    server: { deps: { external: [/\/dist\//] } },
  },
});
