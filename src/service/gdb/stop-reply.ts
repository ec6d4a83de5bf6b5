// Owns: how a stop is told to GDB: the stop reply packet. HTTP thread.
// @source GDB manual, appendix E.3
import type { Breakpoints } from "./breakpoints.js";
import type { GuestAccess } from "./guest-access.js";
import { FP_NUMBER, PC_NUMBER, SP_NUMBER } from "./registers.table.js";
import { threadOf } from "./resume-plan.js";
import type { Stopped } from "./target.js";

/** Classes of debug exceptions in ESR_EL2. */
export const EC = { BREAKPOINT: 0x30, STEP: 0x32, WATCHPOINT: 0x34, BRK: 0x3c } as const;

/** GDB's own numbers of signals. */
const SIGNAL = { INT: 2, TRAP: 5, ABRT: 6, IO: 23 } as const;

/** What the client understands of why. */
export interface ReasonsKnown {
  swbreak: boolean;
  hwbreak: boolean;
}

export function classOf(hsr: bigint): number {
  return Number((hsr >> 26n) & 0x3fn);
}

function hexLe(value: bigint): string {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt.asUintN(64, value));
  return bytes.toString("hex");
}

function reason(
  stopped: Stopped & { kind: "debug" },
  breakpoints: Breakpoints,
  known: ReasonsKnown,
): string {
  switch (classOf(stopped.hsr)) {
    case EC.BRK:
      return known.swbreak ? "swbreak:;" : "";
    case EC.BREAKPOINT:
      return known.hwbreak ? "hwbreak:;" : "";
    case EC.WATCHPOINT: {
      const kind = breakpoints.watchAt(stopped.far);
      return kind === null ? "" : `${kind}:${stopped.far.toString(16)};`;
    }
    default:
      return "";
  }
}

function signalOf(kind: Stopped["kind"]): number {
  if (kind === "debug") return SIGNAL.TRAP;
  if (kind === "interrupted") return SIGNAL.INT;
  return kind === "mmio" ? SIGNAL.IO : SIGNAL.ABRT;
}

/** @param vcpu which thread GDB looks at next */
export async function stopReply(
  stopped: Stopped,
  vcpu: number,
  parts: {
    readonly access: GuestAccess;
    readonly breakpoints: Breakpoints;
    readonly known: ReasonsKnown;
  },
): Promise<string> {
  if (stopped.kind === "off") return "W00";
  const { access, breakpoints, known } = parts;
  const why = stopped.kind === "debug" ? reason(stopped, breakpoints, known) : "";
  const registers: string[] = [];
  for (const number of [FP_NUMBER, SP_NUMBER, PC_NUMBER]) {
    registers.push(`${number.toString(16)}:${hexLe(await access.register(vcpu, number))};`);
  }
  const signal = signalOf(stopped.kind).toString(16).padStart(2, "0");
  return `T${signal}thread:${threadOf(vcpu)};${why}${registers.join("")}`;
}
