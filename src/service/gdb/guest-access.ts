// Owns: a stopped VM's registers and memory as a debugger reads and writes them. HTTP thread.
import { ServiceError } from "../../base/errors.js";
import type { VmHandle } from "../../runtime/index.js";
import { BOTH_SPS, GENERAL, PSTATE_ID, REGISTERS, stackPointerId } from "./registers.table.js";
import type { HardwareDebug } from "./target.js";

/** The smallest granule of stage 1: within it an address leads straight on. */
const GRANULE = 4096n; // tidy: stage 1's, whatever the VM's page size is

/** @source kvm.h: KVM_GUESTDBG_* */
const GUESTDBG = { ENABLE: 1, SINGLESTEP: 2, USE_SW_BP: 1 << 16, USE_HW: 1 << 17 } as const;
const NO_HARDWARE: HardwareDebug = { bvr: [], bcr: [], wvr: [], wcr: [] };

export function littleEndian(value: bigint, bytes: number): Uint8Array {
  return Uint8Array.from({ length: bytes }, (_, i) => Number((value >> BigInt(8 * i)) & 0xffn));
}

export class GuestAccess {
  readonly #handle: VmHandle;
  /** Of each vCPU that was looked at since something ran: by KVM's id. */
  readonly #known = new Map<number, Map<bigint, bigint>>();

  constructor(handle: VmHandle) {
    this.#handle = handle;
  }

  /** Something ran or was written. */
  forget(): void {
    this.#known.clear();
  }

  /** Ids of vCPUs that run guest code. */
  async vcpus(): Promise<readonly number[]> {
    const { value } = await this.#handle.call("listVcpus", {});
    return value.filter(({ engine }) => engine === "a64").map(({ id }) => id);
  }

  /** By the number in the target description. */
  async register(vcpu: number, number: number): Promise<bigint> {
    const row = REGISTERS[number];
    if (row === undefined) throw new ServiceError("out-of-range", "There is no such register.");
    return this.read(vcpu, row.name === "sp" ? await this.#sp(vcpu) : row.id);
  }

  /** By KVM's id. */
  async read(vcpu: number, id: bigint): Promise<bigint> {
    let known = this.#known.get(vcpu);
    if (known?.has(id) !== true) {
      const isGeneral = GENERAL.some((row) => row.id === id);
      const wanted = isGeneral || BOTH_SPS.some((sp) => sp === id);
      const regs = wanted ? [...GENERAL.map((row) => row.id), ...BOTH_SPS] : [id];
      const { value } = await this.#handle.call("readRegisters", { vcpu, regs });
      known = this.#known.get(vcpu) ?? new Map();
      for (const [i, reg] of regs.entries()) known.set(reg, value[i] ?? 0n);
      this.#known.set(vcpu, known);
    }
    return known.get(id) ?? 0n;
  }

  async #sp(vcpu: number): Promise<bigint> {
    return stackPointerId(await this.read(vcpu, PSTATE_ID));
  }

  async setRegister(vcpu: number, number: number, value: bigint): Promise<void> {
    const row = REGISTERS[number];
    if (row === undefined) throw new ServiceError("out-of-range", "There is no such register.");
    const reg = row.name === "sp" ? await this.#sp(vcpu) : row.id;
    // KVM's PSTATE has 64 bits.
    const bytes = littleEndian(value, row.name === "cpsr" ? 8 : row.bits / 8);
    this.#known.delete(vcpu);
    await this.#handle.call("writeRegister", { vcpu, reg, value: bytes });
  }

  /** KVM_SET_GUEST_DEBUG; every BRK is the debugger's while it is there. */
  async debug(vcpu: number, isStep: boolean, hardware: HardwareDebug | null): Promise<void> {
    const step = isStep ? GUESTDBG.SINGLESTEP : 0;
    const control = GUESTDBG.ENABLE | GUESTDBG.USE_SW_BP | step;
    const debug =
      hardware === null
        ? { control, ...NO_HARDWARE }
        : { control: control | GUESTDBG.USE_HW, ...hardware };
    await this.#handle.call("setGuestDebug", { vcpu, ...debug });
  }

  async undebug(vcpu: number): Promise<void> {
    await this.#handle.call("setGuestDebug", { vcpu, control: 0, ...NO_HARDWARE });
  }

  async passBreakpoint(vcpu: number): Promise<void> {
    this.#known.delete(vcpu);
    await this.#handle.call("passBreakpoint", { vcpu });
  }

  /** @returns guest-physical address, or null */
  async translate(vcpu: number, address: bigint): Promise<bigint | null> {
    return (await this.#handle.call("translate", { vcpu, address })).value.ipa;
  }

  /** As many bytes as can be read from there; none where the first can't. */
  async readMemory(vcpu: number, address: bigint, length: number): Promise<Uint8Array> {
    const out = new Uint8Array(length);
    let done = 0;
    while (done < length) {
      const at = BigInt.asUintN(64, address + BigInt(done));
      const bytes = await this.#readWithin(vcpu, at, within(at, length - done));
      if (bytes === null) break;
      out.set(bytes, done);
      done += bytes.length;
    }
    return out.subarray(0, done);
  }

  async #readWithin(vcpu: number, at: bigint, length: number): Promise<Uint8Array | null> {
    const gpa = await this.translate(vcpu, at);
    if (gpa === null) return null;
    try {
      return (await this.#handle.call("readPhysicalMemory", { gpa, length })).value;
    } catch (error) {
      if (isUnmapped(error)) return null;
      throw error;
    }
  }

  /** All or nothing. @returns false where something of it can't be written */
  async writeMemory(vcpu: number, address: bigint, bytes: Uint8Array): Promise<boolean> {
    const pieces: { gpa: bigint; bytes: Uint8Array }[] = [];
    for (let done = 0; done < bytes.length; ) {
      const at = BigInt.asUintN(64, address + BigInt(done));
      const length = within(at, bytes.length - done);
      if ((await this.#readWithin(vcpu, at, length)) === null) return false;
      const gpa = await this.translate(vcpu, at);
      if (gpa === null) return false;
      pieces.push({ gpa, bytes: bytes.slice(done, done + length) });
      done += length;
    }
    for (const piece of pieces) {
      if (!(await this.writePhysical(piece.gpa, piece.bytes))) return false;
    }
    return true;
  }

  async writePhysical(gpa: bigint, bytes: Uint8Array): Promise<boolean> {
    try {
      await this.#handle.call("writePhysicalMemory", { gpa, bytes });
      return true;
    } catch (error) {
      if (isUnmapped(error)) return false;
      throw error;
    }
  }
}

function within(at: bigint, length: number): number {
  return Math.min(length, Number(GRANULE - (at % GRANULE)));
}

function isUnmapped(error: unknown): boolean {
  const codes = ["gpa-not-mapped", "memory-unbacked"];
  return error instanceof ServiceError && codes.includes(error.code);
}
