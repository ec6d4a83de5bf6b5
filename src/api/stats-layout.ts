// Owns: reading the binary statistics file of KVM_GET_STATS_FD. HTTP thread.
//
//   header 24 bytes: flags, name_size, num_desc, id_offset, desc_offset, data_offset (u32 each)
//   descriptor: u32 flags, s16 exponent, u16 size, u32 offset, u32 bucket_size, char name[]
// @source linux/kvm.h, struct kvm_stats_header and kvm_stats_desc
import { assert } from "../base/assert.js";
import { hex } from "../base/hex.js";

const HEADER_BYTES = 24;
const DESC_BYTES = 16;
const VALUE_BYTES = 8;
const TYPES = ["cumulative", "instant", "peak", "linear-histogram", "log-histogram"];
const UNITS = ["none", "bytes", "seconds", "cycles", "boolean"];

export interface Stat {
  readonly name: string;
  readonly type: string;
  readonly unit: string;
  readonly base: 10 | 2;
  readonly exponent: number;
  readonly bucketSize: number;
  readonly values: readonly string[];
}

function textAt(bytes: Uint8Array, offset: number, length: number): string {
  const raw = Buffer.from(bytes.buffer, bytes.byteOffset + offset, length).toString("latin1");
  const end = raw.indexOf("\0");
  return end < 0 ? raw : raw.slice(0, end);
}

/** Decodes the whole file. @returns its id string and every statistic in file order */
export function decodeStats(bytes: Uint8Array): { id: string; stats: readonly Stat[] } {
  assert(bytes.length >= HEADER_BYTES, "a statistics file has a header");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const u32 = (at: number) => view.getUint32(at, true);
  const nameBytes = u32(4);
  const descAt = u32(16);
  const dataAt = u32(20);
  const stats: Stat[] = [];
  for (let i = 0; i < u32(8); i++) {
    const at = descAt + i * (DESC_BYTES + nameBytes);
    const flags = u32(at);
    const first = dataAt + u32(at + 8);
    const values: string[] = [];
    for (let v = 0; v < view.getUint16(at + 6, true); v++) {
      values.push(hex(view.getBigUint64(first + v * VALUE_BYTES, true)));
    }
    stats.push({
      name: textAt(bytes, at + DESC_BYTES, nameBytes),
      type: TYPES[flags & 0xf] ?? "unknown",
      unit: UNITS[(flags >>> 4) & 0xf] ?? "unknown",
      base: ((flags >>> 8) & 0xf) === 0 ? 10 : 2,
      exponent: view.getInt16(at + 4, true),
      bucketSize: u32(at + 12),
      values,
    });
  }
  return { id: textAt(bytes, u32(12), nameBytes), stats };
}
