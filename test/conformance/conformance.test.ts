// Goal: the service answers as the recordings say, through its public routes only.
// Method: start the built service once, replay our own recordings, and the shared ones if present.
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type ServiceProcess, startService } from "./service-process.js";
import { runSuite, type SuiteResult } from "./suite.js";
import { TRACKINGS, type Tracking } from "./tracking.table.js";

const HERE = dirname(fileURLToPath(import.meta.url));
const ROOT = dirname(dirname(HERE));
/** The recordings of a real kernel lie beside the repository, not in it. */
const SHARED = join(ROOT, "..", "shared", "oracle");
const START_TIMEOUT_MS = 90_000;
const REPLAY_TIMEOUT_MS = 240_000;

describe("conformance", () => {
  let service: ServiceProcess;

  beforeAll(async () => {
    service = await startService(ROOT);
  }, START_TIMEOUT_MS);

  afterAll(async () => {
    await service?.stop();
  }, START_TIMEOUT_MS);

  async function replay(
    directory: string,
    tracking: Tracking | null = null,
  ): Promise<{ result: SuiteResult; report: string }> {
    const lines: string[] = [];
    const result = await runSuite({
      origin: service.origin,
      token: null,
      directories: [directory],
      jobs: 4,
      subjects: null,
      verbose: false,
      tracking,
      print: (text) => lines.push(text),
    });
    return { result, report: lines.join("\n") };
  }

  for (const tracking of TRACKINGS) {
    const name = `answers our own recordings, tracking by ${tracking.name}`;
    it(name, { timeout: REPLAY_TIMEOUT_MS }, async () => {
      const { result, report } = await replay(join(HERE, "recordings"), tracking);
      expect(result.failed, report).toBe(0);
      expect(result.passed).toBeGreaterThan(250);
      expect(result.ok, report).toBe(true);
    });
  }

  // The rest of the trackings are `npm run conformance -- --tracking MODE DIR…`.
  for (const tracking of [null, ...TRACKINGS.filter(({ name }) => name === "hdbss+hacdbs")]) {
    const how = tracking === null ? "" : `, tracking by ${tracking.name}`;
    const name = `answers a real kernel's recordings${how}`;
    it(name, { timeout: REPLAY_TIMEOUT_MS }, async (context) => {
      if (!existsSync(SHARED)) {
        context.skip(`no recordings of a real kernel at ${SHARED}; only our own were replayed`);
      }
      const { result, report } = await replay(SHARED, tracking);
      expect(result.failed, report).toBe(0);
      expect(result.passed).toBeGreaterThan(8000);
      expect(result.ok, report).toBe(true);
    });
  }
});
