// Goal: registers by name are the registers that the names say, with their fields.
// Method: the table held against the machine's own list of registers; a guest's registers decoded;
// the route over fake services.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { decodedView } from "../../src/api/views/register.js";
import { NAMED_REGISTERS } from "../../src/api/views/register.table.js";
import * as a64 from "../support/a64.js";
import { Guest, SYS, sysId } from "../support/guest-code.js";
import { type Face, openFace } from "../support/http.js";

let face: Face;
beforeAll(async () => {
  face = await openFace();
});
afterAll(() => face.close());

describe("named registers", () => {
  it("are listed by KVM, and fields lie within them without overlap", () => {
    const vm = new Guest([a64.NOP]);
    const listed = new Set(vm.call("getRegList", { vcpu: 0 }));
    for (const { name, id, fields } of NAMED_REGISTERS) {
      // Computed ones have an id and aren't listed.
      if (!listed.has(id)) expect(vm.refused("getOneReg", { vcpu: 0, reg: id })).toBe(null);
      let taken = 0n;
      for (const [field, low, width] of fields) {
        const mask = ((1n << BigInt(width)) - 1n) << BigInt(low);
        expect([name, field, taken & mask]).toEqual([name, field, 0n]);
        taken |= mask;
      }
      expect(taken < 2n ** 64n).toBe(true);
    }
    expect(new Set(NAMED_REGISTERS.map((row) => row.id)).size).toBe(NAMED_REGISTERS.length);
  });

  it("have the encodings of the assembler's table", () => {
    const known = { ...a64.SYSREG, ...SYS } as Record<string, readonly number[]>;
    const inCore = new Set(["ELR_EL1", "SPSR_EL1", "SP_EL0"]);
    const both = NAMED_REGISTERS.filter(({ name }) => name in known && !inCore.has(name));
    expect(both.length).toBeGreaterThan(8);
    for (const { name, id } of both) {
      expect([name, id]).toEqual([name, sysId(known[name] as never)]);
    }
  });

  it("show a guest that has taken an undefined instruction", () => {
    const vm = new Guest([0]);
    vm.onSync([a64.b(0)]);
    const vbar = NAMED_REGISTERS.find(({ name }) => name === "VBAR_EL1");
    vm.set(vbar!.id, 0x4000_1000n);
    const run = vm.beginRun();
    vm.pump(20);
    vm.call("kick", { vcpu: 0 });
    vm.finish(run);
    const regs = NAMED_REGISTERS.map(({ id }) => id);
    const values = vm.call("getRegs", { vcpu: 0, regs });
    const shown = (name: string) => {
      const at = NAMED_REGISTERS.findIndex((row) => row.name === name);
      return decodedView(NAMED_REGISTERS[at]!, values[at]!);
    };
    expect(shown("PC").value).toBe("0x40001200");
    expect(shown("ELR_EL1").value).toBe("0x40000000");
    const field = (register: string, name: string) =>
      shown(register).fields.find((each) => each.name === name);
    expect(field("ESR_EL1", "EC")).toEqual({
      name: "EC",
      bits: "31:26",
      value: "0x0",
      meaning: "unknown reason",
    });
    expect(field("PSTATE", "M")).toMatchObject({ bits: "3:0", meaning: "EL1h" });
    expect(field("SPSR_EL1", "D")).toEqual({ name: "D", bits: "9", value: "0x1" });
  });
});

describe("the route", () => {
  it("answers every register, decoded", async () => {
    const vm = await face.vm();
    const { body } = await face.call("get", `${vm}/vcpus/0/decoded-registers`).expect(200);
    expect(body.items).toHaveLength(NAMED_REGISTERS.length);
    const esr = body.items.find((item: { name: string }) => item.name === "ESR_EL1");
    expect(esr.value).toBe("0x96000045");
    expect(esr.fields[0]).toMatchObject({ name: "EC", meaning: "data abort, same level" });
  });
});

describe("a trace over HTTP", () => {
  it("starts with a mask of its categories, stops, and downloads JSON", async () => {
    const vm = await face.vm();
    const body = { categories: ["exit", "mmio"] };
    await face.call("post", `${vm}/trace`).send(body).expect(200);
    expect(face.control.calls.at(-1)?.args).toEqual({ categories: 5 });
    await face.call("post", `${vm}/trace`).expect(200);
    expect(face.control.calls.at(-1)?.args).toEqual({ categories: 511 });
    await face
      .call("post", `${vm}/trace`)
      .send({ categories: ["other"] })
      .expect(400);
    await face.call("get", `${vm}/trace/status`).expect(200);
    const file = await face.call("get", `${vm}/trace`).expect(200);
    expect(file.headers["content-type"]).toContain("application/json");
    expect(file.body.traceEvents).toEqual([]);
    await face.call("delete", `${vm}/trace`).expect(204);
  });
});
