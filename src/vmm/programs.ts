// Owns: a program as it comes in, checked and turned into a source of accesses. VM thread.
import { ServiceError } from "../base/errors.js";
import { ListSource, PatternSource } from "../kvm/index.js";
import type { Program } from "./commands.js";

/** Guest addresses above this can't be told apart from their neighbours by an exact number. */
const ADDRESS_MAX = 2n ** 52n;
/** Accesses of an explicit list at most. */
export const PROGRAM_ACCESSES_MAX = 65536;

/** @throws ServiceError "invalid-program" with a sentence that names the member */
export function programSource(program: Program, pageSize: number): ListSource | PatternSource {
  if (program.kind === "accesses") return listSource(program.accesses);
  const { base, bytes, count, writePercent, length, stride, skew, seed, pattern } = program;
  if (base + bytes > ADDRESS_MAX) throw invalid("base + bytes must be at most 2^52");
  if (bytes < BigInt(length)) throw invalid("bytes must hold at least one access");
  if (![1, 2, 4, 8].includes(length)) throw invalid("length must be 1, 2, 4 or 8");
  if (pattern === "hot-set" && (skew < 1 || skew > 100)) {
    throw invalid("skew of a hot set is its share of the window in percent, 1 to 100");
  }
  return new PatternSource({
    pattern,
    base: Number(base),
    bytes: Number(bytes),
    count,
    writePercent,
    length,
    stride: stride === 0 ? pageSize : stride,
    skew,
    seed,
    pageSize,
  });
}

function listSource(accesses: Extract<Program, { kind: "accesses" }>["accesses"]): ListSource {
  if (accesses.length > PROGRAM_ACCESSES_MAX) {
    throw invalid(`a list holds at most ${PROGRAM_ACCESSES_MAX} accesses`);
  }
  return new ListSource(
    accesses.map((access, at) => {
      if (access.address + 8n > ADDRESS_MAX) throw invalid(`accesses/${at}: address beyond 2^52`);
      if (access.length < 1 || access.length > 8) {
        throw invalid(`accesses/${at}: length must be 1 to 8`);
      }
      return {
        isWrite: access.op === "write",
        ipa: Number(access.address),
        length: access.length,
        value: access.value ?? 0n,
      };
    }),
  );
}

function invalid(why: string): ServiceError {
  return new ServiceError("invalid-program", why);
}
