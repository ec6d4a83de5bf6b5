// Owns: the registers of an ITS's control frame, as the guest and as userspace reach them; data
// only, but for the functions it names. VM thread.
// @source Arm IHI 0069 12.19; arch/arm64/kvm/vgic/vgic-its.c by behaviour; interrupts.md 4.6
import { KvmError } from "../../base/errors.js";
import { mask, sanitiseBaser, sanitiseCbaser } from "./baser.js";
import { BASER, BASER_FIXED, type Its } from "./its.js";
import { processCommands, queueBytes } from "./its-commands.js";

export interface ItsRegister {
  readonly name: string;
  readonly offset: number;
  /** Bytes that the row covers; more than `width` for an array of registers. */
  readonly span: number;
  /** 8: it may be reached by halves as well. */
  readonly width: 4 | 8;
  /** @param at offset of the register itself */
  readonly read: (its: Its, at: number) => bigint;
  /** @param value of the whole register, with the other half as it reads */
  readonly write?: (its: Its, value: bigint, at: number) => void;
  /** Userspace's, where it differs. @throws KvmError */
  readonly uaccess?: (its: Its, value: bigint) => void;
}

const CTLR = { ENABLED: 1n, QUIESCENT: 1n << 31n } as const;
/** Product 'K', ABI revision 0, implementer Arm. */
const IIDR = (0x4bn << 24n) | 0x43bn;
const IIDR_REVISION = 0xf000n;
/** Physical LPIs; ITT entries of 8 bytes; 16 bits of EventID and of DeviceID. */
const TYPER = 1n | (7n << 4n) | (15n << 8n) | (15n << 13n);
/** Commands have 32 bytes, queues 1 MiB at most. */
const QUEUE_OFFSET = mask(19, 5);
const BASER_READ_ONLY = mask(58, 56) | mask(52, 48) | mask(9, 8);
/** From GITS_PIDR4 on; those that aren't here read as zero. */
const ID_REGISTERS: ReadonlyMap<number, bigint> = new Map([
  [0xffd0, 0x40n],
  [0xffe0, 0x92n],
  [0xffe4, 0xb4n],
  [0xffe8, 0x3bn],
  [0xfff0, 0x0dn],
  [0xfff4, 0xf0n],
  [0xfff8, 0x05n],
  [0xfffc, 0xb1n],
]);

function refuse(errno: "EINVAL" | "EBUSY", why: string): never {
  throw new KvmError(errno, "KVM_SET_DEVICE_ATTR", why);
}

function readCtlr(its: Its): bigint {
  const isQuiescent = its.creadr === its.cwriter;
  return (its.enabled ? CTLR.ENABLED : 0n) | (isQuiescent ? CTLR.QUIESCENT : 0n);
}

/** Nothing is enabled without a queue and both tables. */
function writeCtlr(its: Its, value: bigint): void {
  const isOn = (value & CTLR.ENABLED) !== 0n;
  const bases = its.deviceTable & its.collectionTable & its.cbaser;
  if (isOn && !its.enabled && (bases & BASER.VALID) === 0n) return;
  its.enabled = isOn;
  if (!isOn) its.cache.clear();
  processCommands(its);
}

function writeCbaser(its: Its, value: bigint): void {
  if (its.enabled) return;
  its.cbaser = sanitiseCbaser(value);
  its.creadr = 0;
  its.cwriter = 0;
}

/** @returns a place in the queue; null: beyond it */
function queueOffset(its: Its, value: bigint): number | null {
  const offset = Number(value & QUEUE_OFFSET);
  return offset < queueBytes(its.cbaser) ? offset : null;
}

function writeCwriter(its: Its, value: bigint): void {
  const offset = queueOffset(its, value);
  if (offset === null) return;
  its.cwriter = offset;
  processCommands(its);
}

function restoreCreadr(its: Its, value: bigint): void {
  if (its.enabled) refuse("EBUSY", "GITS_CREADR is written while the ITS is disabled");
  its.creadr = queueOffset(its, value) ?? refuse("EINVAL", "GITS_CREADR is beyond the queue");
}

function restoreIidr(_its: Its, value: bigint): void {
  if ((value & IIDR_REVISION) !== 0n) refuse("EINVAL", "the tables have ABI revision 0 only");
}

function readBaser(its: Its, at: number): bigint {
  if (at === 0x100) return its.deviceTable;
  return at === 0x108 ? its.collectionTable : 0n;
}

function writeBaser(its: Its, value: bigint, at: number): void {
  if (its.enabled || at > 0x108) return;
  const baser = sanitiseBaser(value) & ~BASER_READ_ONLY;
  if (at === 0x100) {
    its.deviceTable = baser | BASER_FIXED.device;
    if ((baser & BASER.VALID) === 0n) its.freeDevices();
  } else {
    // Collections are few: their table is flat.
    its.collectionTable = (baser & ~BASER.INDIRECT) | BASER_FIXED.collection;
    if ((baser & BASER.VALID) === 0n) its.freeCollections();
  }
}

const row = (name: string, offset: number, width: 4 | 8, rest: Behaviour): ItsRegister => ({
  name,
  offset,
  span: width,
  width,
  ...rest,
});
type Behaviour = Pick<ItsRegister, "read" | "write" | "uaccess"> & { readonly span?: number };

export const ITS_REGISTERS: readonly ItsRegister[] = [
  row("GITS_CTLR", 0x0000, 4, { read: readCtlr, write: writeCtlr }),
  row("GITS_IIDR", 0x0004, 4, { read: () => IIDR, uaccess: restoreIidr }),
  row("GITS_TYPER", 0x0008, 8, { read: () => TYPER }),
  row("GITS_CBASER", 0x0080, 8, { read: (its) => its.cbaser, write: writeCbaser }),
  row("GITS_CWRITER", 0x0088, 8, { read: (its) => BigInt(its.cwriter), write: writeCwriter }),
  row("GITS_CREADR", 0x0090, 8, { read: (its) => BigInt(its.creadr), uaccess: restoreCreadr }),
  row("GITS_BASER", 0x0100, 8, { span: 0x40, read: readBaser, write: writeBaser }),
  row("GITS_PIDR", 0xffd0, 4, { span: 0x30, read: (_its, at) => ID_REGISTERS.get(at) ?? 0n }),
];
