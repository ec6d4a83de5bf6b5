// Owns: the bytes of a snapshot's file: frames, their checksum, the footer. Any thread.
//
//   magic, format │ frame, frame … │ meta frame │ state frame │ footer
//   frame:  type, object, first page, pages, payload bytes, CRC-32 of these five and the payload
//   footer: magic, format, where the meta frame begins, bytes of the file, SHA-256 of all before
//
// Words are little-endian. A page that comes twice counts as it comes last.
import { crc32 } from "node:zlib";
import { ServiceError } from "../../base/errors.js";

/** "TMsnap\r\n": a file that was moved as text shows it. */
const MAGIC = Buffer.from("TMsnap\r\n", "latin1");
const FORMAT = 1;
/** Magic, format, a word that is 0. */
export const HEAD_BYTES = 16;
export const FRAME_HEAD_BYTES = 24;
/** Magic, format, a word that is 0, two 64-bit places, SHA-256. */
export const FOOTER_BYTES = 64;
/** Payload of a frame of pages; one page of the largest size fits. */
export const PAGES_PAYLOAD_MAX = 2 ** 20;
/** Of state and meta; the state of a VM with 512 vCPUs and full tables stays far below. */
const PAYLOAD_MAX = 2 ** 28;

export const FRAME = {
  /** Content of pages. */
  pages: 1,
  /** Pages of zeros. */
  zero: 2,
  /** Write sequences of unbacked pages, 32 bits each. */
  sequences: 3,
  /** What the VM is made from, and what the snapshot is. */
  meta: 4,
  /** State of vCPUs and devices. */
  state: 5,
} as const;
export type FrameType = (typeof FRAME)[keyof typeof FRAME];

export interface FrameHead {
  readonly type: number;
  readonly object: number;
  readonly first: number;
  readonly count: number;
  readonly bytes: number;
}

const CRC_AT = 20;

export function broken(why: string): ServiceError {
  return new ServiceError("snapshot-broken", `The snapshot's file can't be used: ${why}.`);
}

/** Completes a frame whose payload is in its place behind the head. */
export function sealFrame(frame: Buffer, head: FrameHead): void {
  const words = [head.type, head.object, head.first, head.count, head.bytes];
  for (const [at, word] of words.entries()) frame.writeUInt32LE(word, at * 4);
  frame.writeUInt32LE(checksum(frame, head.bytes), CRC_AT);
}

function checksum(frame: Buffer, payload: number): number {
  const body = frame.subarray(FRAME_HEAD_BYTES, FRAME_HEAD_BYTES + payload);
  return crc32(body, crc32(frame.subarray(0, CRC_AT)));
}

export function readFrameHead(bytes: Buffer): FrameHead {
  const [type = 0, object = 0, first = 0, count = 0, length = 0] = [0, 1, 2, 3, 4].map((at) =>
    bytes.readUInt32LE(at * 4),
  );
  const isLarge = type === FRAME.meta || type === FRAME.state;
  if (length > (isLarge ? PAYLOAD_MAX : PAGES_PAYLOAD_MAX)) throw broken("a frame is too long");
  return { type, object, first, count, bytes: length };
}

/** @throws ServiceError "snapshot-broken" */
export function checkFrame(frame: Buffer, head: FrameHead): void {
  if (frame.readUInt32LE(CRC_AT) === checksum(frame, head.bytes)) return;
  throw broken(`the checksum of the frame of object ${head.object}, page ${head.first}, is wrong`);
}

export function fileHead(): Buffer {
  const head = Buffer.alloc(HEAD_BYTES);
  MAGIC.copy(head);
  head.writeUInt32LE(FORMAT, MAGIC.length);
  return head;
}

/** @throws ServiceError "snapshot-broken" */
export function checkHead(head: Buffer): void {
  if (!head.subarray(0, MAGIC.length).equals(MAGIC)) throw broken("it is no snapshot");
  const format = head.readUInt32LE(MAGIC.length);
  if (format !== FORMAT) throw broken(`its format is ${format}, and this host knows ${FORMAT}`);
  if (head.readUInt32LE(MAGIC.length + 4) !== 0) throw broken("its head is not as we write it");
}

const META_AT = 16;
const SIZE_AT = 24;
const DIGEST_AT = 32;

/** @param bytes of the whole file, the footer included */
export function fileFooter(metaAt: number, bytes: number, sha256: Buffer): Buffer {
  const footer = Buffer.alloc(FOOTER_BYTES);
  fileHead().copy(footer);
  footer.writeBigUInt64LE(BigInt(metaAt), META_AT);
  footer.writeBigUInt64LE(BigInt(bytes), SIZE_AT);
  sha256.copy(footer, DIGEST_AT);
  return footer;
}

export interface Footer {
  readonly metaAt: number;
  readonly sha256: Buffer;
}

/** @throws ServiceError "snapshot-broken" */
export function readFooter(footer: Buffer, fileBytes: number): Footer {
  checkHead(footer);
  const metaAt = Number(footer.readBigUInt64LE(META_AT));
  const bytes = Number(footer.readBigUInt64LE(SIZE_AT));
  if (bytes !== fileBytes) throw broken(`it has ${fileBytes} bytes, not ${bytes}`);
  if (metaAt < HEAD_BYTES || metaAt > fileBytes - FOOTER_BYTES) throw broken("its parts overlap");
  return { metaAt, sha256: Buffer.from(footer.subarray(DIGEST_AT)) };
}
