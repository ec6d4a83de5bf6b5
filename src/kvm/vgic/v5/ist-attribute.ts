// Owns: struct kvm_vgic_v5_ist, the way of an IST between KVM and userspace's memory: address and
// size of an array of entries, of SPIs and of LPIs. VM thread.
// @source interrupts.md 5.15; widths are our choice

import type { MemoryObject } from "../../address-space.js";
import { GET, refused, SET } from "../attribute.js";
import type { V5Context } from "./context.js";
import { istSizes, restoreIst, saveIst } from "./ist.js";

const BYTES = 32;

interface Buffer {
  readonly at: number;
  readonly bytes: number;
}

function buffers(value: Uint8Array, ioctl: string): { spi: Buffer; lpi: Buffer } {
  if (value.length === 0) throw refused("EINVAL", ioctl, "there is no descriptor");
  if (value.length < BYTES) throw refused("EFAULT", ioctl, `the descriptor is ${BYTES} bytes`);
  const view = new DataView(value.buffer, value.byteOffset, BYTES);
  const word = (n: number) => Number(view.getBigUint64(8 * n, true));
  return { spi: { at: word(0), bytes: word(1) }, lpi: { at: word(2), bytes: word(3) } };
}

/** @throws KvmError EINVAL */
function checkSizes(v5: V5Context, { spi, lpi }: { spi: Buffer; lpi: Buffer }, ioctl: string) {
  const sizes = istSizes(v5);
  const fits = (buffer: Buffer, bytes: number) =>
    bytes === 0 ? buffer.at === 0 && buffer.bytes === 0 : buffer.at !== 0 && buffer.bytes === bytes;
  if (!fits(spi, sizes.spi)) throw refused("EINVAL", ioctl, `SPIs have ${sizes.spi} bytes`);
  if (!fits(lpi, sizes.lpi)) throw refused("EINVAL", ioctl, `LPIs have ${sizes.lpi} bytes`);
}

/** Each object of userspace's memory that a buffer touches. @throws KvmError EFAULT */
function eachPiece(
  { vm }: V5Context,
  { at, bytes }: Buffer,
  ioctl: string,
  visit: (object: MemoryObject, offset: number, from: number, to: number) => void,
): void {
  for (let from = 0; from < bytes; ) {
    const object = vm.mm.find(at + from);
    if (object?.backing !== "ram") throw refused("EFAULT", ioctl, "no memory is there");
    const offset = at + from - object.userspaceAddr;
    const to = Math.min(bytes, from + object.bytes - offset);
    visit(object, offset, from, to);
    from = to;
  }
}

/** KVM_GET_DEVICE_ATTR. @returns the descriptor as it was */
export function getIst(v5: V5Context, value: Uint8Array): Uint8Array {
  const to = buffers(value, GET);
  checkSizes(v5, to, GET);
  const image = saveIst(v5);
  const put = (buffer: Buffer, bytes: Uint8Array) =>
    eachPiece(v5, buffer, GET, (object, offset, from, end) =>
      v5.vm.mm.store(object, offset, bytes.subarray(from, end)),
    );
  put(to.spi, image.spi);
  if (image.lpi !== null) put(to.lpi, image.lpi);
  return value.slice();
}

/** KVM_SET_DEVICE_ATTR. */
export function setIst(v5: V5Context, value: Uint8Array): void {
  const from = buffers(value, SET);
  if (v5.vm.hasRun) throw refused("EBUSY", SET, "a vCPU has run");
  checkSizes(v5, from, SET);
  const take = (buffer: Buffer) => {
    const bytes = new Uint8Array(buffer.bytes);
    eachPiece(v5, buffer, SET, (object, offset, at, end) =>
      v5.vm.host.readPhysical(object.pa + offset, bytes.subarray(at, end)),
    );
    return bytes;
  };
  restoreIst(v5, { spi: take(from.spi), lpi: from.lpi.bytes === 0 ? null : take(from.lpi) });
}
