// Goal: GDB itself can debug a VM: what it shows and where it stops.
// Method: gdb-multiarch in batch mode against the compiled service. Without it there is nothing to
// try.
import { execFile } from "node:child_process";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { missing, program, programVersion } from "../../tools/debian.mjs";
import { CODE, DATA, GdbWorld, LOOP, OTHER } from "../support/gdb-world.js";

const GDB = "gdb-multiarch";
const GDB_MS = 60_000;

let world: GdbWorld;

/** Opens a stub, connects GDB to it and runs commands. @returns what GDB printed */
async function gdb(vm: string, commands: readonly string[], listen: unknown = "unix") {
  const { body } = await world.done("POST", `${vm}/gdb`, { listen });
  const all = ["set confirm off", "set pagination off", String(body["connect"]), ...commands];
  const options = ["-nx", "-batch", ...all.flatMap((command) => ["-ex", command])];
  return new Promise<string>((resolve, reject) => {
    execFile(program(GDB), options, { timeout: GDB_MS }, (error, stdout, stderr) => {
      if (error === null) resolve(stdout + stderr);
      else reject(new Error(`${error.message}\n${stdout}\n${stderr}`));
    });
  });
}

const hex = (value: number): string => `0x${value.toString(16)}`;

describe(GDB, () => {
  if (programVersion(GDB) === null) {
    it("is not installed", (context) => context.skip(missing(GDB)));
    return;
  }
  beforeAll(async () => {
    world = await GdbWorld.start();
  });
  afterAll(() => world.stop());

  it("shows registers and code, breaks, continues and steps", async () => {
    const vm = await world.vm();
    const said = await gdb(vm, [
      "info registers",
      `x/4i ${hex(LOOP)}`,
      `break *${hex(LOOP + 4)}`,
      "continue",
      "print $x0",
      "continue",
      "print $x0",
      "stepi",
      "print/x $pc",
      "print $v0.d.u",
      "print/x $VBAR_EL1",
      `print *(long*)${hex(DATA)}`,
      "detach",
    ]);
    expect(said).toMatch(new RegExp(`pc\\s+${hex(CODE)}`));
    expect(said).toMatch(/cpsr\s+0x3c5\s+\[ SP EL=1 F I A D \]/);
    expect(said).toMatch(/add\s+x0, x0, #0x1\n[^\n]*str\s+x0, \[x1\]\n[^\n]*add\s+x2, x2, #0x2\n/);
    expect(said).toMatch(/Breakpoint 1, 0x0*4000000c in[^\n]*\n\$1 = 1\n/);
    expect(said).toMatch(/\n\$1 = 1\n\nBreakpoint 1, 0x0*4000000c in[^\n]*\n\$2 = 2\n/);
    expect(said).toContain(`$3 = ${hex(LOOP + 8)}`);
    expect(said).toContain("$4 = {0, 0}");
    expect(said).toContain("$5 = 0x0");
    expect(said).toContain("$6 = 2");
    await world.isDetached(vm);
  });

  it("watches a word, on a TCP port", async () => {
    const vm = await world.vm();
    const where = `*(long*)${hex(DATA)}`;
    const commands = [`watch ${where}`, "continue", "continue", `delete`, "kill"];
    const said = await gdb(vm, commands, { port: 0 });
    expect(said).toContain(`Hardware watchpoint 1: ${where}`);
    expect(said).toMatch(/Old value = 0\nNew value = 1\n[\s\S]*Old value = 1\nNew value = 2\n/);
  });

  it("sees two vCPUs as threads", async () => {
    const vm = await world.vm({ vcpus: 2 });
    const said = await gdb(vm, [
      "info threads",
      "thread 2",
      "print/x $pc",
      "stepi",
      "print $x5 > 0",
      `hbreak *${hex(LOOP)}`,
      "continue",
      "info threads",
    ]);
    expect(said).toMatch(/\* 1\s+Thread 1 \(vCPU 0\)/);
    expect(said).toMatch(/ 2\s+Thread 2 \(vCPU 1\)/);
    expect(said).toContain(`$1 = ${hex(OTHER)}`);
    expect(said).toContain("$2 = 1");
    expect(said).toMatch(/Thread 1 [^\n]*hit Breakpoint 1/);
  });

  it("debugs a guest on a board up to its end", async () => {
    const vm = await world.board("smp", 2);
    const said = await gdb(vm, [
      "break *0x40080064",
      "continue",
      "print $x0",
      "info threads",
      "continue",
    ]);
    expect(said).toMatch(/Thread 2 [^\n]*hit Breakpoint 1/);
    expect(said).toContain("$1 = 4660");
    expect(said).toContain("exited normally");
    expect(await world.console(vm)).toContain("STATUS=1");
  });
});
