// Owns: where a virtual address of a PE leads, asked from outside: nothing changes, nothing faults.
// VM thread.
import type { HostMemory } from "../../host-memory.js";
import {
  decodeStage1,
  newStage1Result,
  type Stage1Registers,
  type Stage2,
  translateStage1,
} from "./stage1.js";

/**
 * Stage 1 as the registers say, privileged, whatever the access flag is.
 * @param hostAddress of an IPA's bytes, or -1 where there are none to read tables from
 * @returns IPA, or null where stage 1 has none
 */
export function lookUp(
  memory: HostMemory,
  registers: Stage1Registers,
  va: bigint,
  hostAddress: (ipa: number) => number,
): number | null {
  const out = newStage1Result();
  let isUpdate = false;
  const tables: Stage2 = {
    translate: (ipa, isWrite) => {
      isUpdate = isWrite;
      return isWrite ? -1 : hostAddress(ipa);
    },
  };
  // Hardware would set the flag; here that is where it ends, with the address known.
  const regime = { ...decodeStage1(registers), hardwareAf: true };
  const [low, high] = [Number(BigInt.asIntN(32, va)), Number(BigInt.asIntN(32, va >> 32n))];
  const done = translateStage1(tables, memory, regime, low, high, "read", true, out);
  return done === "ok" || isUpdate ? out.ipa : null;
}
