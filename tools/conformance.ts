// Owns: `npm run conformance -- DIR…`: replays recordings against a service, its own by default.
// A process of its own.
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { startService } from "../test/conformance/service-process.js";
import { runSuite } from "../test/conformance/suite.js";
import { TRACKINGS } from "../test/conformance/tracking.table.js";

const USAGE = `usage: npm run conformance -- [options] DIR…
Replays every recording (*.jsonl directly in DIR…) through the public routes of a service.
  --url URL         use a running service instead of starting dist/main.js
  --token TOKEN     bearer token for it
  --subjects A,B    only recordings of these subjects
  --tracking MODE   how the VMs notice stores; no answer may depend on it. One of
                    ${TRACKINGS.map(({ name }) => name).join(", ")}
  --jobs N          files at the same time (default 4)
  --verbose         print every difference, not only the first of each file
Ends with "N passed, N failed, N skipped" (lines); exit status 1 when a line failed or the skip
rules take more than their share, 2 on a wrong call.`;

/** Exit status after a signal. */
const SIGNALLED = 130;

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      url: { type: "string" },
      token: { type: "string" },
      subjects: { type: "string" },
      tracking: { type: "string" },
      jobs: { type: "string", default: "4" },
      verbose: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  const jobs = Number(values.jobs);
  const tracking = TRACKINGS.find(({ name }) => name === values.tracking) ?? null;
  const isUnknown = values.tracking !== undefined && tracking === null;
  if (values.help || isUnknown || positionals.length === 0 || !Number.isInteger(jobs) || jobs < 1) {
    console.log(USAGE);
    return values.help ? 0 : 2;
  }
  const root = dirname(dirname(fileURLToPath(import.meta.url)));
  const service = values.url === undefined ? await startService(root) : null;
  // Whoever ends us must not leave the service behind.
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.once(signal, () => {
      const exit = (): never => process.exit(SIGNALLED);
      void (service?.stop() ?? Promise.resolve()).then(exit, exit);
    });
  }
  try {
    const result = await runSuite({
      origin: service?.origin ?? new URL(values.url ?? "").origin,
      token: values.token ?? null,
      directories: positionals,
      jobs,
      subjects: values.subjects?.split(",") ?? null,
      verbose: values.verbose,
      tracking,
      print: (text) => console.log(text),
    });
    if (service?.hasEnded()) console.error(`the service ended by itself:\n${service.output()}`);
    return result.ok ? 0 : 1;
  } finally {
    await service?.stop();
  }
}

main().then(
  (status) => {
    process.exitCode = status;
  },
  (error: unknown) => {
    console.error(error instanceof Error ? error.message : error);
    process.exitCode = 2;
  },
);
