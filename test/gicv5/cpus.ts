// Owns: the CPUs of a replayed board: ones that only call our functions, and PEs that execute the
// recorded instructions. Test process.
import { pageGeometry } from "../../src/base/page.js";
import { A64Machine, a64Pages } from "../../src/machine/a64/a64-machine.js";
import type { Pe } from "../../src/machine/a64/pe/pe.js";
import { WHY } from "../../src/machine/a64/window.js";
import { CpuInterface } from "../../src/machine/gic/gicv5/cpu-interface.js";
import { GIC_SYS, GIC_SYSL, ICC_V5_BY_ENCODING } from "../../src/machine/gic/gicv5/icc.table.js";
import type { Irs } from "../../src/machine/gic/gicv5/irs.js";
import { Host } from "../../src/machine/host.js";
import { HostCpu } from "../../src/machine/host-cpu.js";

export interface Encoding {
  readonly op0: number;
  readonly op1: number;
  readonly crn: number;
  readonly crm: number;
  readonly op2: number;
}

export interface ReplayCpu {
  readonly gic: CpuInterface;
  /** MRS, SYSL. */
  read(encoding: Encoding): bigint | "undefined" | "ignored";
  /** MSR, SYS. */
  write(encoding: Encoding, value: bigint): "ok" | "undefined";
}

/** "s3_0_c12_c10_2". */
export function parseEncoding(text: string): Encoding {
  const found = /^s(\d+)_(\d+)_c(\d+)_c(\d+)_(\d+)$/.exec(text);
  if (found === null) throw new Error(`no encoding: ${text}`);
  const [op0, op1, crn, crm, op2] = found.slice(1).map(Number);
  return { op0: op0!, op1: op1!, crn: crn!, crm: crm!, op2: op2! };
}

const SCTLR_EL1 = (3 << 14) | (1 << 7);
const ISR_EL1 = (3 << 14) | (12 << 7) | (1 << 3);
const SCTLR_NMI = 1n << 61n;
const ISR = { I: 1n << 7n, IS: 1n << 10n } as const;

export class DirectCpu implements ReplayCpu {
  readonly gic: CpuInterface;
  #sctlr = 0n;

  constructor(irs: Irs, iaffid: number) {
    this.gic = new CpuInterface(irs);
    this.gic.usePhysical(iaffid);
  }

  static all(irs: Irs, count: number): readonly ReplayCpu[] {
    return Array.from({ length: count }, (_, n) => new DirectCpu(irs, n));
  }

  read(encoding: Encoding): bigint | "undefined" | "ignored" {
    const { op0, op1, crn, crm, op2 } = encoding;
    if (op0 === 1) {
      const name = op1 === 0 && crn === 12 ? GIC_SYSL.get((crm << 3) | op2) : undefined;
      if (name === undefined) return "undefined";
      return this.gic.acknowledge(name === "CDNMIA", (this.#sctlr & SCTLR_NMI) !== 0n);
    }
    const packed = (op0 << 14) | (op1 << 11) | (crn << 7) | (crm << 3) | op2;
    // What else a reference has in it depends on its other features.
    if (packed === SCTLR_EL1) return "ignored";
    if (packed === ISR_EL1) {
      return (this.gic.virq ? ISR.I : 0n) | (this.gic.isSuperpriority ? ISR.IS : 0n);
    }
    const row = ICC_V5_BY_ENCODING.get(packed);
    const read = row === undefined ? "undefined" : this.gic.read(row.name);
    if (read === "trap") throw new Error("nobody traps here");
    return read;
  }

  write(encoding: Encoding, value: bigint): "ok" | "undefined" {
    const { op0, op1, crn, crm, op2 } = encoding;
    if (op0 === 1) {
      const name = op1 === 0 && crn === 12 ? GIC_SYS.get((crm << 3) | op2) : undefined;
      if (name === undefined) return "undefined";
      this.gic.execute(name, value);
      return "ok";
    }
    const packed = (op0 << 14) | (op1 << 11) | (crn << 7) | (crm << 3) | op2;
    const row = ICC_V5_BY_ENCODING.get(packed);
    if (packed === SCTLR_EL1) this.#sctlr = value;
    else if (row?.access !== "rw") return "undefined";
    else this.gic.write(row.name, value);
    return "ok";
  }
}

const MEMORY_BYTES = 64 * 2 ** 20;
const PAGE = 4096; // tidy: a page size of the host
const RT = 1;

export class InstructionCpu implements ReplayCpu {
  readonly gic: CpuInterface;
  readonly pe: Pe;

  constructor(pe: Pe, gic: CpuInterface) {
    this.pe = pe;
    this.gic = gic;
  }

  static all(irs: Irs, count: number): readonly InstructionCpu[] {
    const host = new Host({ pageSize: PAGE, seed: 1n, memoryBytesMax: MEMORY_BYTES });
    const pages = a64Pages(host.geometry.size);
    const machine = new A64Machine(host, host.frames.allocate(pages.arena), () => 0n, null);
    return Array.from({ length: count }, (_, n) => {
      const cpu = new HostCpu(n, host.memory, pageGeometry(PAGE), host, irs);
      cpu.gicv5.usePhysical(n);
      const pe = machine.addPe(host.frames.allocate(pages.window));
      pe.registers.reset({ mpidr: BigInt(n), ipaBits: 40 });
      pe.load(cpu);
      return new InstructionCpu(pe, cpu.gicv5);
    });
  }

  /** @returns whether it was UNDEFINED */
  execute(word: number): boolean {
    this.pe.slowLeft = 100;
    const done = this.pe.system(word, WHY.instruction);
    if (done === "leave" || this.pe.stop !== null) throw new Error("nobody traps here");
    return done === "jump";
  }

  #word({ op0, op1, crn, crm, op2 }: Encoding, isRead: boolean): number {
    const fields = (op0 << 19) | (op1 << 16) | (crn << 12) | (crm << 8) | (op2 << 5);
    return (0xd500_0000 | (isRead ? 1 << 21 : 0) | fields | RT) >>> 0;
  }

  read(encoding: Encoding): bigint | "undefined" | "ignored" {
    const { op0, op1, crn, crm, op2 } = encoding;
    const packed = (op0 << 14) | (op1 << 11) | (crn << 7) | (crm << 3) | op2;
    if (packed === SCTLR_EL1) return "ignored";
    if (this.execute(this.#word(encoding, true))) return "undefined";
    return this.pe.registers.x(RT);
  }

  write(encoding: Encoding, value: bigint): "ok" | "undefined" {
    this.pe.registers.setX(RT, value);
    return this.execute(this.#word(encoding, false)) ? "undefined" : "ok";
  }
}
