// Owns: the code at a vCPU's address as text, read through its stage 1. VM thread.
import { ServiceError } from "../base/errors.js";
import type { Kvm, Vcpu } from "../kvm/index.js";
import { disassemble } from "../machine/index.js";
import type { CommandResult } from "./commands.js";
import { pieceAt } from "./memory-access.js";
import { guestEngine, ipaOf } from "./stage1-address.js";

const INSTRUCTION_BYTES = 4;
const ALIGNED = 3n;

/**
 * Reads `count` instructions, fewer where the address space ends.
 * @param address null: where the vCPU stands
 * @throws ServiceError "vcpu-not-initialised", "out-of-range", "va-not-mapped" for the first one
 */
export function disassembleAt(
  kvm: Kvm,
  vcpu: Vcpu,
  address: bigint | null,
  count: number,
): CommandResult<"disassemble"> {
  const engine = guestEngine(vcpu);
  const start = address ?? engine.pe.registers.pc;
  if ((start & ALIGNED) !== 0n) {
    throw new ServiceError("out-of-range", `address must be a multiple of ${INSTRUCTION_BYTES}`);
  }
  const { host } = kvm.vm;
  const bytes = new Uint8Array(INSTRUCTION_BYTES);
  const view = new DataView(bytes.buffer);
  const lines: CommandResult<"disassemble">[number][] = [];
  while (lines.length < count) {
    const at = BigInt.asUintN(64, start + BigInt(INSTRUCTION_BYTES * lines.length));
    const ipa = ipaOf(kvm, engine, at);
    const piece = ipa === null ? null : pieceAt(kvm, ipa);
    if (piece === null) break;
    host.readPhysical(piece.object.pa + piece.offset, bytes);
    const word = view.getUint32(0, true);
    lines.push({ address: at, word, text: disassemble(word, at) });
  }
  if (lines.length > 0) return lines;
  throw new ServiceError("va-not-mapped", `nothing to read at 0x${start.toString(16)}`);
}
