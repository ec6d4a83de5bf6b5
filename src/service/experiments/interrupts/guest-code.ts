// Owns: the guest of an interrupt workload: code that works and stops by turns, a handler that
// looks whether its device has something, and where both find their numbers. HTTP thread.
//
//   vCPU n ─ set-up ─▶ { work ─ stop: a store that exits, with the log's length }*
//   handler: take ─ USED = SEEN? ─ no: SEEN := USED, quiet, log ─▶ deactivate
//                                └ yes: once too often? disable ─▶ deactivate
// @source IHI 0069 (GICv3), interrupts.md 5 and gicv5-observed.md 6 (what Linux does with a GICv5)
import * as a64 from "../../../base/a64-words.js";
import type { InterruptWorkload } from "./types.js";

const { REGISTER } = a64;

/** Guest-physical addresses. */
export const PLACE = {
  ram: 0x4000_0000,
  /** Code of all vCPUs: the loop, vectors, set-up. */
  loop: 0x4000_0000,
  vectors: 0x4000_0800,
  setUp: 0x4000_2000,
  /** Of each SPI, 32 bits: how much work its device has had; its device's own. */
  used: 0x4008_0000,
  /** Of each SPI a record. */
  records: 0x4009_0000,
  /** Of each vCPU a log. */
  logs: 0x4010_0000,
  /** Where a store stops the vCPU. */
  stop: 0x7000_0000,
  /** Four bytes of each SPI: a store quiets its device. */
  quiet: 0x7001_0000,
} as const;
export const RAM_BYTES = 0x50_0000;
export const LOG_BYTES = 0x1_0000;
const IRQ_VECTOR = 0x280;
const FRAME = { dist: 0x800_0000, redist: 0x80a_0000, irs: 0x801_0000 } as const;

export { FRAME as GIC_FRAME };

/** Fields of a record, each 32 bits. */
export const RECORD = {
  ...{ bytes: 32, seen: 0, inARow: 4, taken: 8 },
  ...{ storms: 12, forNothing: 16 }, // tidy: offsets
} as const;
const RECORD_SHIFT = 5;
/** Log: SPI, then CNTVCT. */
export const LOG_ENTRY_BYTES = 16;
const LOG_ENTRY_SHIFT = 4;

const FIRST_SPI_V3 = 32;
const SPI_TYPE_V5 = 0x6000_0000;
const GICD = { CTLR: 0, ISENABLER: 0x100, ICENABLER: 0x180, IPRIORITYR: 0x400, ICFGR: 0xc00 };
const GICD_IROUTER = 0x6000;
const IRS = { CR0: 0x80, SPI_SELR: 0x108, SPI_CFGR: 0x114 };
const PRIORITY_V3 = 0xa0a0_a0a0;
const PRIORITY_V5 = 16;
const WORDS_OF_A_REGISTER = 32;

/** Registers that the handler may change, and those that the loop and it share. */
const [A, B, C, ID, REC, TAKEN, TYPED] = [9, 10, 11, 12, 13, 21, 22];
const [COUNT, WORK, RECORDS, USED, LOG, LOG_END, LIMIT, LOG_BASE, STOP, QUIET] = [
  ...[16, 19, 20, 17, 23, 24, 25, 26, 28, 27],
] as const;

/** General registers of a vCPU at its first instruction, by number. */
export function registersOf(w: InterruptWorkload, vcpu: number, workLoops: number) {
  const log = PLACE.logs + vcpu * LOG_BYTES;
  return new Map<number, number>([
    [WORK, workLoops],
    [RECORDS, PLACE.records],
    [USED, PLACE.used],
    [LOG, log],
    [LOG_BASE, log],
    [LOG_END, log + LOG_BYTES],
    [LIMIT, w.stormLimit],
    [STOP, PLACE.stop],
    [QUIET, PLACE.quiet],
  ]);
}

/** Instructions of one turn of the work. */
export const INSTRUCTIONS_PER_LOOP = 2;

const poke = (address: number, value: number, store = a64.strw): number[] => [
  ...a64.constant(A, address),
  ...a64.constant(B, value),
  store(B, A),
];

/** Distributor on; every SPI level or edge, delivered to its vCPU, enabled. */
function setUpV3({ spis, vcpus, trigger }: InterruptWorkload): number[] {
  const last = FIRST_SPI_V3 + spis;
  const config = trigger === "edge" ? 0xaaaa_aaaa : 0;
  const code = poke(FRAME.dist + GICD.CTLR, 0x12);
  for (let id = FIRST_SPI_V3; id < last; id++) {
    const route = FRAME.dist + GICD_IROUTER + 8 * id;
    code.push(...poke(route, (id - FIRST_SPI_V3) % vcpus, a64.str));
    if (id % 4 === 0) code.push(...poke(FRAME.dist + GICD.IPRIORITYR + id, PRIORITY_V3));
    if (id % 16 === 0) code.push(...poke(FRAME.dist + GICD.ICFGR + id / 4, config));
    if (id % WORDS_OF_A_REGISTER === 0) {
      const bits = Math.min(WORDS_OF_A_REGISTER, last - id);
      const enabled = bits === WORDS_OF_A_REGISTER ? 0xffff_ffff : 2 ** bits - 1;
      code.push(...poke(FRAME.dist + GICD.ISENABLER + id / 8, enabled));
    }
  }
  return code;
}

/** As Linux: priority, trigger mode by the IRS, target, enabled. */
function setUpV5({ spis, vcpus, trigger }: InterruptWorkload): number[] {
  const code = poke(FRAME.irs + IRS.CR0, 1);
  for (let id = 0; id < spis; id++) {
    code.push(
      ...[...a64.constant(A, SPI_TYPE_V5 | id), a64.upper(A, PRIORITY_V5 << 3), a64.gicCdpri(A)],
      ...poke(FRAME.irs + IRS.SPI_SELR, id),
      ...poke(FRAME.irs + IRS.SPI_CFGR, trigger === "edge" ? 0 : 1),
      ...[...a64.constant(A, SPI_TYPE_V5 | id), a64.upper(A, id % vcpus), a64.gicCdaff(A)],
      ...[...a64.constant(A, SPI_TYPE_V5 | id), a64.gicCden(A)],
    );
  }
  return [...code, a64.GSB_SYS];
}

const own = {
  3: [
    ...[...a64.constant(A, 0xf0), a64.msr(REGISTER.ICC_PMR_EL1, A)],
    ...[...a64.constant(A, 1), a64.msr(REGISTER.ICC_IGRPEN1_EL1, A), a64.ISB],
  ],
  5: [
    ...[...a64.constant(A, 0x1f), a64.msr(REGISTER.ICC_PCR_EL1, A)],
    ...[...a64.constant(A, 1), a64.msr(REGISTER.ICC_CR0_EL1, A), a64.ISB],
  ],
} as const;

/** Work for a while, then the stop; what the log holds is its length, and is forgotten then. */
function loop(): number[] {
  const stop = [
    ...[a64.MASK_IRQ, a64.str(LOG, STOP), a64.move(LOG, LOG_BASE), a64.UNMASK_IRQ], // tidy: code
  ];
  const work = [a64.move(COUNT, WORK), a64.subs(COUNT, COUNT, 1), a64.bne(-1)];
  return [a64.UNMASK_IRQ, ...work, ...stop, a64.b(-(work.length + stop.length))];
}

/** Takes the interrupt: its number from 0 in ID. */
const take = {
  3: [a64.mrs(TAKEN, REGISTER.ICC_IAR1_EL1), a64.sub(ID, TAKEN, FIRST_SPI_V3)],
  5: [
    ...[a64.gicrCdia(TAKEN), a64.GSB_ACK, a64.ISB, a64.GIC_CDEOI],
    ...[a64.lowBits(TYPED, TAKEN, 32), a64.lowBits(ID, TAKEN, 24)],
  ],
} as const;

const deactivate = {
  3: [a64.msr(REGISTER.ICC_EOIR1_EL1, TAKEN), a64.ERET],
  5: [a64.gicCddi(TYPED), a64.ERET],
} as const;

/** Disables the SPI that is in ID. */
const disable = {
  3: [
    ...[a64.lsr(A, TAKEN, 5), ...a64.constant(B, FRAME.dist + GICD.ICENABLER)],
    ...[a64.addShifted(B, B, A, 2), ...a64.constant(A, 1), a64.lslv(A, A, TAKEN)],
    // LSLV takes the count modulo 64: above 31 the bit is in the upper half.
    ...[a64.lsr(C, A, 32), a64.addShifted(A, A, C, 0), a64.strw(A, B)],
  ],
  5: [a64.gicCddis(TYPED), a64.GSB_SYS],
} as const;

const increment = (field: number): number[] => [
  ...[a64.ldrw(A, REC, field), a64.add(A, A, 1), a64.strw(A, REC, field)],
];

function handler(gic: 3 | 5, quiets: boolean): number[] {
  const end = deactivate[gic];
  const quiet = quiets ? [a64.addShifted(A, QUIET, ID, 2), a64.strw(ID, A)] : [];
  const log = [
    ...[a64.str(ID, LOG), a64.mrs(A, REGISTER.CNTVCT_EL0), a64.str(A, LOG, 8)],
    a64.add(LOG, LOG, LOG_ENTRY_BYTES),
  ];
  const serve = [
    ...[a64.strw(B, REC, RECORD.seen), a64.strw(31, REC, RECORD.inARow), ...quiet],
    ...[a64.cmp(LOG, LOG_END), a64.bhs(log.length + 1), ...log],
    ...end,
  ];
  const storm = [...disable[gic], a64.strw(31, REC, RECORD.inARow), ...increment(RECORD.storms)];
  const nothing = [
    ...increment(RECORD.forNothing),
    ...increment(RECORD.inARow),
    ...[a64.cmp(A, LIMIT), a64.blo(storm.length + 1), ...storm],
    ...end,
  ];
  return [
    ...take[gic],
    a64.addShifted(REC, RECORDS, ID, RECORD_SHIFT),
    ...increment(RECORD.taken),
    ...[a64.addShifted(A, USED, ID, 2), a64.ldrw(B, A)],
    ...[a64.ldrw(C, REC, RECORD.seen), a64.cmp(B, C), a64.beq(serve.length + 1)],
    ...serve,
    ...nothing,
  ];
}

interface Piece {
  readonly gpa: number;
  readonly bytes: Uint8Array;
}

/** Everything that the guest's memory holds at first; vCPU 0 begins at the set-up of all SPIs. */
export function guestCode(w: InterruptWorkload, gic: 3 | 5) {
  const all = gic === 3 ? setUpV3(w) : setUpV5(w);
  const toLoop = (code: readonly number[], gpa: number) => {
    const distance = (PLACE.loop - gpa) / 4 - code.length;
    return { gpa, bytes: a64.bytesOfWords([...code, a64.b(distance)]) };
  };
  const first = PLACE.setUp + 0x100;
  const pieces: readonly Piece[] = [
    { gpa: PLACE.loop, bytes: a64.bytesOfWords(loop()) },
    {
      gpa: PLACE.vectors + IRQ_VECTOR,
      bytes: a64.bytesOfWords(handler(gic, w.trigger === "level-quieted")),
    },
    toLoop(own[gic], PLACE.setUp),
    toLoop([...all, ...own[gic]], first),
  ];
  const entryOf = (vcpu: number): number => (vcpu === 0 ? first : PLACE.setUp);
  return { pieces, entryOf };
}

/** Entries of a log whose end the guest told. */
export function logEntries(bytes: Uint8Array): readonly { spi: number; ns: number }[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Array.from({ length: bytes.byteLength >> LOG_ENTRY_SHIFT }, (_, at) => ({
    spi: view.getUint32(at * LOG_ENTRY_BYTES, true),
    ns: Number(view.getBigUint64(at * LOG_ENTRY_BYTES + 8, true)),
  }));
}
