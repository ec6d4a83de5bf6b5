// Owns: which buffers of a message move to the other thread instead of being copied. Both sides.
import { assert } from "../base/assert.js";
import { isLent } from "../base/lent-bytes.js";
import { TRANSFER_BYTES_MIN } from "../base/limits.js";

/**
 * Finds the buffers of a message that are worth moving: plain ones, wholly covered by their view.
 * A view of a part is copied by the port, since moving it would take its neighbours with it.
 * The sender's views of moved buffers are empty afterwards.
 */
export function movableBuffers(value: unknown): readonly ArrayBuffer[] {
  const found = new Set<ArrayBuffer>();
  collect(value, found);
  return [...found];
}

function collect(value: unknown, found: Set<ArrayBuffer>): void {
  if (typeof value !== "object" || value === null) return;
  if (ArrayBuffer.isView(value)) {
    // Lent bytes are read where they are.
    if (isLent(value)) return;
    const { buffer } = value;
    // A view of a shared memory would arrive as a window into the VM, not as data.
    assert(buffer instanceof ArrayBuffer, "a message refers to shared memory");
    const whole = value.byteLength === buffer.byteLength;
    if (whole && value.byteLength >= TRANSFER_BYTES_MIN) found.add(buffer);
    return;
  }
  for (const item of Array.isArray(value) ? value : Object.values(value)) collect(item, found);
}
