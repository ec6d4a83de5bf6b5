// Owns: `npx tsx tools/kut-migrate.ts --images DIR`: kvm-unit-tests' migration tests between two
// processes. A test prints that it wants to be moved; it is moved, gets its newline, and says by
// itself whether all is as it was.
//   --images DIR   with gic.flat and debug.flat, built by kvm-unit-tests' own makefile
//   --only NAME    one of them, or several
// Exit status 1 when a test fails, asks for nothing, or can't be moved. Own process.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import type { Client } from "../dist/cli/client.js";
import { type Name, other, TwoHosts } from "../test/support/two-hosts.js";
import { ConsoleWatch } from "./migrate/console.js";
import { migrate, vmOf } from "./migrate/move.js";

interface Test {
  readonly name: string;
  readonly flat: "gic" | "debug";
  readonly words: string;
  readonly vcpus: number;
  readonly its: boolean;
}

const its = (name: string): Test => ({ name, flat: "gic", words: name, vcpus: 4, its: true });
const debug = (name: string, words: string): Test => {
  return { name, flat: "debug", words, vcpus: 1, its: false };
};

/** As unittests.cfg has them. */
const TESTS: readonly Test[] = [
  its("its-migration"),
  its("its-pending-migration"),
  its("its-migrate-unmapped-collection"),
  debug("debug-bp-migration", "bp-migration"),
  debug("debug-wp-migration", "wp-migration"),
  debug("debug-sstep-migration", "ss-migration"),
];

const ASKS = /Now migrate the VM/g;
/** Its exit code is shifted by one; 0 is success. */
const SAYS = /EXIT: STATUS=([0-9]+)/;
/** Where errata of the kernel are asked for. */
const ENVIRONMENT = "ERRATA_FORCE=y\n";
const ASK_MS = 120_000;
const MEMORY_MIB = 128;

const { values: options } = parseArgs({
  options: { images: { type: "string" }, only: { type: "string", multiple: true } },
});

interface Verdict {
  readonly passed: boolean;
  readonly moves: number;
  readonly says: string;
}

async function create(client: Client, { name, flat, words, vcpus, its }: Test): Promise<string> {
  const bytes = Uint8Array.from(readFileSync(join(options.images ?? ".", `${flat}.flat`)));
  const [image, initrd] = [`kut-${flat}`, "kut-env"];
  await client.call("putImage", { image }, bytes);
  await client.call("putImage", { image: initrd }, new TextEncoder().encode(ENVIRONMENT));
  const board = { image, initrd, cmdline: words, memoryMiB: MEMORY_MIB, vcpus, its };
  return (
    await client.call(
      "createVm",
      {},
      { name, clock: { mode: "wall" }, board: { ...board, gic: 3 } },
    )
  ).id;
}

/** Moves it as often as it asks. */
async function run(hosts: TwoHosts, test: Test): Promise<Verdict> {
  let at: Name = "host-a";
  let vm = await create(hosts.client(at), test);
  const { uuid } = await hosts.client(at).call("getVm", { vm });
  await hosts.client(at).call("startVm", { vm });
  for (let moves = 0; ; moves++) {
    const asked = (text: string) => (text.match(ASKS) ?? []).length > moves;
    const watch = new ConsoleWatch(hosts.client(at), vm);
    try {
      await watch.until((text) => asked(text) || SAYS.test(text), ASK_MS);
    } finally {
      await watch.close();
    }
    const status = SAYS.exec(watch.text)?.[1];
    if (status !== undefined) return verdictOf(watch.text, Number(status), moves);
    const how = { parameters: { verify: true } };
    const moved = await migrate(hosts.client(at), { vmId: vm, peer: other(at), ...how }, ASK_MS);
    if (moved.state !== "completed") {
      return { passed: false, moves, says: `${moved.state}: ${moved.failure?.detail ?? ""}` };
    }
    at = other(at);
    vm = await vmOf(hosts.client(at), uuid);
    await hosts.client(at).call("typeConsole", { vm }, { text: "\n" });
  }
}

function verdictOf(text: string, status: number, moves: number): Verdict {
  const failed = text.split("\n").filter((line) => line.startsWith("FAIL"));
  const passed = (text.match(/^PASS/gm) ?? []).length;
  const says = [`${passed} passed`, ...failed.map((line) => line.trim())].join("; ");
  return { passed: status === 1 && failed.length === 0 && passed > 0 && moves > 0, moves, says };
}

async function main(): Promise<void> {
  if (options.images === undefined) throw new Error("--images DIR: where the *.flat files are");
  const tests = TESTS.filter(({ name }) => options.only?.includes(name) ?? true);
  const hosts = await TwoHosts.start("kut");
  try {
    for (const test of tests) {
      const { passed, moves, says } = await run(hosts, test).catch((error: Error): Verdict => {
        return { passed: false, moves: 0, says: error.message };
      });
      console.log(`${passed ? "PASS" : "FAIL"}  ${test.name}  ${moves} moves  ${says}`);
      if (!passed) process.exitCode = 1;
    }
  } finally {
    await hosts.stop();
  }
}

await main();
