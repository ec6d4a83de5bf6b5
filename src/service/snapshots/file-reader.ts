// Owns: reading one snapshot's file, strictly: nothing is believed that a checksum doesn't cover.
// Any thread.
import { createHash } from "node:crypto";
import { type FileHandle, open } from "node:fs/promises";
import { refusalOfFile } from "./file-writer.js";
import {
  broken,
  checkFrame,
  checkHead,
  FOOTER_BYTES,
  type Footer,
  FRAME,
  FRAME_HEAD_BYTES,
  type FrameHead,
  HEAD_BYTES,
  readFooter,
  readFrameHead,
} from "./format.js";

/** Bytes that are asked of the file at once. */
const CHUNK_BYTES = 2 ** 21;

export interface Frame extends FrameHead {
  /** Good until the next frame is read. */
  readonly payload: Buffer;
}

export class SnapshotReader {
  readonly meta: Uint8Array;
  readonly state: Uint8Array;
  readonly #file: FileHandle;
  readonly #footer: Footer;
  readonly #end: number;
  readonly #hash = createHash("sha256");
  /** Bytes that were read and not yet taken. */
  #buffer: Buffer = Buffer.alloc(0);
  /** Place in the file behind the buffer. */
  #at = 0;

  private constructor(file: FileHandle, footer: Footer, end: number, last: readonly Frame[]) {
    this.#file = file;
    this.#footer = footer;
    this.#end = end;
    this.meta = Uint8Array.from(last[0]?.payload ?? []);
    this.state = Uint8Array.from(last[1]?.payload ?? []);
  }

  /** @throws ServiceError "snapshot-broken", "snapshot-file" */
  static async open(path: string): Promise<SnapshotReader> {
    let file: FileHandle;
    try {
      file = await open(path, "r");
    } catch (error) {
      throw refusalOfFile(error);
    }
    try {
      const { size } = await file.stat();
      if (size < HEAD_BYTES + FOOTER_BYTES) throw broken("it is too short");
      checkHead(await piece(file, 0, HEAD_BYTES));
      const end = size - FOOTER_BYTES;
      const footer = readFooter(await piece(file, end, FOOTER_BYTES), size);
      const last = await lastFrames(file, footer.metaAt, end);
      return new SnapshotReader(file, footer, end, last);
    } catch (error) {
      await file.close();
      throw refusalOfFile(error);
    }
  }

  /**
   * @returns the next frame of memory; null behind the last one, when the whole file is checked
   * @throws ServiceError "snapshot-broken"
   */
  async next(): Promise<Frame | null> {
    if (this.#at === 0) this.#hash.update(await this.#take(HEAD_BYTES));
    if (this.#position >= this.#footer.metaAt) {
      await this.#checkRest();
      return null;
    }
    const head = readFrameHead(await this.#peek(FRAME_HEAD_BYTES));
    const frame = await this.#take(FRAME_HEAD_BYTES + head.bytes);
    if (this.#position > this.#footer.metaAt) throw broken("its frames overlap");
    checkFrame(frame, head);
    this.#hash.update(frame);
    return { ...head, payload: frame.subarray(FRAME_HEAD_BYTES) };
  }

  async close(): Promise<void> {
    await this.#file.close();
  }

  get #position(): number {
    return this.#at - this.#buffer.length;
  }

  async #checkRest(): Promise<void> {
    while (this.#position < this.#end) {
      const bytes = Math.min(CHUNK_BYTES, this.#end - this.#position);
      this.#hash.update(await this.#take(bytes));
    }
    if (!this.#hash.copy().digest().equals(this.#footer.sha256))
      throw broken("its digest is wrong");
  }

  async #peek(bytes: number): Promise<Buffer> {
    if (this.#buffer.length < bytes) {
      const more = Math.min(Math.max(CHUNK_BYTES, bytes), this.#end - this.#at);
      if (this.#buffer.length + more < bytes) throw broken("it ends within a frame");
      const read = await piece(this.#file, this.#at, more);
      this.#at += more;
      this.#buffer = Buffer.concat([this.#buffer, read]);
    }
    return this.#buffer.subarray(0, bytes);
  }

  async #take(bytes: number): Promise<Buffer> {
    const taken = await this.#peek(bytes);
    this.#buffer = this.#buffer.subarray(bytes);
    return taken;
  }
}

async function piece(file: FileHandle, at: number, bytes: number): Promise<Buffer> {
  const out = Buffer.alloc(bytes);
  for (let done = 0; done < bytes; ) {
    const { bytesRead } = await file.read(out, done, bytes - done, at + done);
    if (bytesRead === 0) throw broken("it ends early");
    done += bytesRead;
  }
  return out;
}

async function lastFrames(
  file: FileHandle,
  metaAt: number,
  end: number,
): Promise<readonly Frame[]> {
  const frames: Frame[] = [];
  let at = metaAt;
  for (const type of [FRAME.meta, FRAME.state]) {
    if (at + FRAME_HEAD_BYTES > end) throw broken("its last parts are missing");
    const head = readFrameHead(await piece(file, at, FRAME_HEAD_BYTES));
    if (head.type !== type || at + FRAME_HEAD_BYTES + head.bytes > end) {
      throw broken("its last parts are missing");
    }
    const frame = await piece(file, at, FRAME_HEAD_BYTES + head.bytes);
    checkFrame(frame, head);
    frames.push({ ...head, payload: frame.subarray(FRAME_HEAD_BYTES) });
    at += frame.length;
  }
  if (at !== end) throw broken("something follows its last part");
  return frames;
}
