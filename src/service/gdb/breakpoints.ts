// Owns: a debugger's breakpoints and watchpoints: which there are, and what of them is in the
// guest's memory. HTTP thread.
// A software breakpoint is a BRK in place of an instruction, as QEMU does it on KVM; it is put back
// at the physical address where it went, whatever the tables of stage 1 say by then.
import type { GuestAccess } from "./guest-access.js";
import { BREAKPOINTS_MAX, HARDWARE } from "./limits.js";
import type { HardwareDebug } from "./target.js";

/** BRK #0. */
const BRK = Uint8Array.of(0x00, 0x00, 0x20, 0xd4);

interface Software {
  readonly address: bigint;
  readonly gpa: bigint;
  readonly original: Uint8Array;
}

export type WatchKind = "watch" | "rwatch" | "awatch";
interface Watch {
  readonly kind: WatchKind;
  readonly address: bigint;
  readonly length: bigint;
}

/** DBGBCR: E, PMC for EL0 and EL1, BAS of a whole instruction. */
const BCR = 1n | (0b11n << 1n) | (0b1111n << 5n);
/** DBGWCR: E, PAC for EL0 and EL1. */
const WCR = 1n | (0b11n << 1n);
const LSC: Readonly<Record<WatchKind, bigint>> = { watch: 2n, rwatch: 1n, awatch: 3n };

function isPowerOf2(value: bigint): boolean {
  return value > 0n && (value & (value - 1n)) === 0n;
}

/** DBGWVR and DBGWCR; null where one watchpoint can't watch that range. */
function watchRegisters({ kind, address, length }: Watch): { wvr: bigint; wcr: bigint } | null {
  const control = WCR | (LSC[kind] << 3n);
  const offset = address & 7n;
  if (length >= 1n && offset + length <= 8n) {
    const bas = ((1n << length) - 1n) << offset;
    return { wvr: address - offset, wcr: control | (bas << 5n) };
  }
  // Larger ones by mask: a power of two up to 2 GiB, aligned to itself.
  if (!isPowerOf2(length) || length > 2n ** 31n || address % length !== 0n) return null;
  const mask = BigInt(length.toString(2).length - 1);
  return { wvr: address, wcr: control | (0xffn << 5n) | (mask << 24n) };
}

export class Breakpoints {
  readonly #access: GuestAccess;
  readonly #software: Software[] = [];
  readonly #hardware: bigint[] = [];
  readonly #watches: Watch[] = [];

  constructor(access: GuestAccess) {
    this.#access = access;
  }

  isSoftware(address: bigint): boolean {
    return this.#software.some((one) => one.address === address);
  }

  isHardware(address: bigint): boolean {
    return this.#hardware.includes(address);
  }

  /** Which kind of watchpoint an access to this address meets. */
  watchAt(far: bigint): WatchKind | null {
    const found = this.#watches.find(
      ({ address, length }) => far >= address && far < address + length,
    );
    return found?.kind ?? null;
  }

  /** @returns whether it could be inserted; twice is as good as once */
  async insertSoftware(vcpu: number, address: bigint): Promise<boolean> {
    if (this.isSoftware(address)) return true;
    if ((address & 3n) !== 0n || this.#software.length >= BREAKPOINTS_MAX) return false;
    const gpa = await this.#access.translate(vcpu, address);
    const original = await this.#access.readMemory(vcpu, address, BRK.length);
    if (gpa === null || original.length < BRK.length) return false;
    // The same page under another address: what is kept must be the guest's own word.
    const under = this.#software.find((one) => one.gpa === gpa)?.original ?? original;
    if (!(await this.#access.writePhysical(gpa, BRK.slice()))) return false;
    this.#software.push({ address, gpa, original: under });
    return true;
  }

  async removeSoftware(address: bigint): Promise<void> {
    const at = this.#software.findIndex((one) => one.address === address);
    const [removed] = at < 0 ? [] : this.#software.splice(at, 1);
    if (removed === undefined) return;
    if (this.#software.some(({ gpa }) => gpa === removed.gpa)) return;
    await this.#access.writePhysical(removed.gpa, removed.original.slice());
  }

  insertHardware(address: bigint): boolean {
    if (this.isHardware(address)) return true;
    const fits = (address & 3n) === 0n && this.#hardware.length < HARDWARE.breakpoints;
    if (fits) this.#hardware.push(address);
    return fits;
  }

  removeHardware(address: bigint): void {
    const at = this.#hardware.indexOf(address);
    if (at >= 0) this.#hardware.splice(at, 1);
  }

  insertWatch(watch: Watch): boolean {
    if (this.#watches.some((one) => isSame(one, watch))) return true;
    if (watchRegisters(watch) === null) return false;
    if (this.#watches.length >= HARDWARE.watchpoints) return false;
    this.#watches.push(watch);
    return true;
  }

  removeWatch(watch: Watch): void {
    const at = this.#watches.findIndex((one) => isSame(one, watch));
    if (at >= 0) this.#watches.splice(at, 1);
  }

  /** What the hardware is to be told; null when there is nothing for it. */
  hardware(): HardwareDebug | null {
    const watches = this.#watches.map(watchRegisters).filter((one) => one !== null);
    if (watches.length === 0 && this.#hardware.length === 0) return null;
    return {
      bvr: [...this.#hardware],
      bcr: this.#hardware.map(() => BCR),
      wvr: watches.map(({ wvr }) => wvr),
      wcr: watches.map(({ wcr }) => wcr),
    };
  }

  /** Shows the guest's own words in bytes that were read from an address. */
  hide(address: bigint, bytes: Uint8Array): void {
    for (const one of this.#software) overlay(bytes, address, one.original, one.address);
  }

  /** Bytes to be written to an address, with the breakpoints that stay there. */
  covered(address: bigint, bytes: Uint8Array): Uint8Array {
    const out = bytes.slice();
    for (const one of this.#software) overlay(out, address, BRK, one.address);
    return out;
  }

  /** They were written: what breakpoints will put back is new. */
  written(address: bigint, bytes: Uint8Array): void {
    for (const one of this.#software) overlay(one.original, one.address, bytes, address);
  }

  /** Puts everything back. */
  async clear(): Promise<void> {
    this.#hardware.length = 0;
    this.#watches.length = 0;
    for (const { address } of [...this.#software]) await this.removeSoftware(address);
  }
}

function isSame(a: Watch, b: Watch): boolean {
  return a.kind === b.kind && a.address === b.address && a.length === b.length;
}

/** Copies the part of `from` that lies within `to`; both begin at addresses. */
function overlay(to: Uint8Array, toAt: bigint, from: Uint8Array, fromAt: bigint): void {
  const distance = fromAt - toAt;
  if (distance <= -BigInt(from.length) || distance >= BigInt(to.length)) return;
  const shift = Number(distance);
  for (const [i, byte] of from.entries()) {
    if (i + shift >= 0 && i + shift < to.length) to[i + shift] = byte;
  }
}
