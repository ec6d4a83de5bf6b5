// Owns: the guest of the GICv5 simulation: it does what a list in its memory says, one item after
// the other and without a store to anything but its own memory, so that it leaves only where an
// item says so. Where it stands tells which items have had their effect. Test process.
//
//   fetch: X9, X0, X1 from the list ─▶ routine: its first instruction is the effect ─▶ log: X0
import * as words from "../../../src/base/a64-words.js";

export const RAM = 0x4000_0000;
export const RAM_PAGES = 64;
const CPU_BYTES = 0x1_0000;
const ROUTINES = 0x400;
const ROUTINE_BYTES = 0x20;
const LIST = 0x2000;
const LOG = 0x8000;
const ITEM_BYTES = 24;
const LOG_BYTES = 8;
export const STOPS = 0x7000_0000;

const [ROUTINE, NEXT, LOG_AT, TAKEN, STOP] = [9, 20, 21, 22, 28];
const HVC = 0xd400_0002;
/** PSCI_VERSION: an exit that KVM answers. */
const PSCI_VERSION = 0x8400_0000;
const SPI = 0x6000_0000;

const CODE = {
  take: [words.gicrCdia(0), words.lowBits(TAKEN, 0, 32), words.RET],
  eoi: [words.GIC_CDEOI, words.RET],
  deactivateTaken: [words.gicCddi(TAKEN), words.RET],
  deactivate: [words.gicCddi(0), words.RET],
  enable: [words.gicCden(0), words.RET],
  disable: [words.gicCddis(0), words.RET],
  pend: [words.gicCdpend(0), words.RET],
  exit: [HVC, words.RET],
  nothing: [words.NOP, words.RET],
  /** An exit to userspace; its run is over. */
  stop: [words.str(0, STOP), words.RET],
  // Of the set-up.
  store: [words.strw(1, 0), words.RET],
  priority: [words.gicCdpri(0), words.RET],
  affinity: [words.gicCdaff(0), words.RET],
  mask: [words.msr(words.REGISTER.ICC_PCR_EL1, 0), words.RET],
  open: [words.msr(words.REGISTER.ICC_CR0_EL1, 0), words.RET],
} as const;
export type Routine = keyof typeof CODE;
const ROUTINE_NAMES = Object.keys(CODE) as Routine[];

export interface Item {
  readonly routine: Routine;
  /** SPI that it is about. */
  readonly spi?: number;
  /** Of pend. */
  readonly isOn?: boolean;
  readonly x0?: bigint;
  readonly x1?: number;
}

const FETCH = [
  words.ldr(ROUTINE, NEXT, 0),
  words.ldr(0, NEXT, 8),
  words.ldr(1, NEXT, 16),
  words.add(NEXT, NEXT, ITEM_BYTES),
  words.blr(ROUTINE),
];
const LOOP = [...FETCH, words.str(0, LOG_AT), words.add(LOG_AT, LOG_AT, LOG_BYTES)];
/** Fetched, and not begun. */
const BLR_AT = 4 * (FETCH.length - 1);

function operand({ routine, spi = 0, isOn = false, x0 }: Item): bigint {
  if (x0 !== undefined) return x0;
  if (routine === "exit") return BigInt(PSCI_VERSION);
  const pending = routine === "pend" && isOn ? 1n << 32n : 0n;
  return BigInt(SPI + spi) | pending;
}

/** The agent of one vCPU. */
export class Agent {
  readonly base: number;

  constructor(index: number) {
    this.base = RAM + index * CPU_BYTES;
  }

  get code(): readonly (readonly [gpa: number, bytes: Uint8Array])[] {
    return [
      [this.base, words.bytesOfWords([...LOOP, words.b(-LOOP.length)])],
      ...ROUTINE_NAMES.map((name): readonly [number, Uint8Array] => {
        return [this.#placeOf(name), words.bytesOfWords(CODE[name])];
      }),
    ];
  }

  #placeOf(routine: Routine): number {
    return this.base + ROUTINES + ROUTINE_BYTES * ROUTINE_NAMES.indexOf(routine);
  }

  get list(): number {
    return this.base + LIST;
  }

  get log(): number {
    return this.base + LOG;
  }

  /** Registers with which a list begins; what it was stopped with is logged before the first. */
  get start(): ReadonlyMap<number, bigint> {
    return new Map([
      [NEXT, BigInt(this.list)],
      [LOG_AT, BigInt(this.log - LOG_BYTES)],
      [TAKEN, 0n],
      [STOP, BigInt(STOPS)],
    ]);
  }

  bytesOf(items: readonly Item[]): Uint8Array {
    const bytes = new Uint8Array(ITEM_BYTES * items.length);
    const view = new DataView(bytes.buffer);
    for (const [at, item] of items.entries()) {
      view.setBigUint64(ITEM_BYTES * at, BigInt(this.#placeOf(item.routine)), true);
      view.setBigUint64(ITEM_BYTES * at + 8, operand(item), true);
      view.setBigUint64(ITEM_BYTES * at + 16, BigInt(item.x1 ?? 0), true);
    }
    return bytes;
  }

  /** Items that have had their effect, by where the vCPU stands. */
  effects(pc: number, next: number): number {
    const fetched = (next - this.list) / ITEM_BYTES;
    if (fetched === 0) return 0;
    const isAtRoutine = pc >= this.base + ROUTINES && (pc - this.base) % ROUTINE_BYTES === 0;
    return pc === this.base + BLR_AT || isAtRoutine ? fetched - 1 : fetched;
  }
}

/** Registers of the agent that tell where it stands. */
export const NEXT_REGISTER = NEXT;
