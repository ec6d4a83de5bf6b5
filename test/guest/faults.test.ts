// Goal: every class of exception that a guest can take gives the ESR and FAR of the Arm ARM, at EL1
// and EL0, in both tiers, and what QEMU's guest sees.
// Method: test/guest/faults.S holds what it gets against what it should get, and prints a line for
// each; the whole console is held against QEMU's, where it is installed.
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { missing, program, programVersion } from "../../tools/debian.mjs";
import { guestImage, InlineBoard } from "../support/board.js";

const IMAGE = fileURLToPath(new URL("faults.bin", import.meta.url));
const QEMU = "qemu-system-aarch64";
const MACHINE = "-M virt -cpu cortex-a72 -m 128 -nodefaults -nic none -display none -serial stdio";
const TIMEOUT_MS = 20_000;
/** QEMU has no check of SP's alignment, and one for Device memory from 9.0 on. */
const QEMU_MISSES = [
  "EL1 load: alignment, device: right",
  "EL1 SP alignment: right",
  "EL0 SP alignment: right",
  "EXIT: STATUS=1",
];
const TESTS = 47;

function ours(translation: null | object): string {
  const vm = InlineBoard.with(guestImage("faults"), { vm: { translation } });
  vm.act("start");
  vm.pumpUntil(() => vm.view().state === "shutdown");
  return vm.console();
}

describe("the guest that provokes every fault", () => {
  it.each([
    ["with translation", {}],
    ["with translation of short regions", { regionMax: 4 }],
    ["with the interpreter alone", null],
  ] as const)("gets the right syndromes, %s", (_, translation) => {
    const lines = ours(translation).trimEnd().split("\n");
    expect(lines.filter((line) => line.includes("WRONG"))).toEqual([]);
    expect(lines.at(-1)).toBe("EXIT: STATUS=1");
    expect(lines.filter((line) => line.endsWith(": right"))).toHaveLength(TESTS);
  });

  it("prints what it prints on QEMU, where that is installed", (context) => {
    if (programVersion(QEMU) === null) context.skip(missing(QEMU));
    const args = [...MACHINE.split(" "), "-kernel", IMAGE];
    const run = spawnSync(program(QEMU), args, { timeout: TIMEOUT_MS, input: "" });
    const theirs = run.stdout.toString().replaceAll("\r\n", "\n").split("\n");
    const lines = ours({}).split("\n");
    expect(theirs).toHaveLength(lines.length);
    const differ = lines.filter((line, at) => line !== theirs[at]);
    expect(QEMU_MISSES).toEqual(expect.arrayContaining(differ));
  });
});
