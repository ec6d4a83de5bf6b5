// Owns: writing one snapshot's file: complete under its name, or not there. Any thread.
import { createHash } from "node:crypto";
import { mkdir, open, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { assert } from "../../base/assert.js";
import { ServiceError } from "../../base/errors.js";
import {
  FOOTER_BYTES,
  FRAME,
  FRAME_HEAD_BYTES,
  type FrameType,
  fileFooter,
  fileHead,
  HEAD_BYTES,
  PAGES_PAYLOAD_MAX,
  sealFrame,
} from "./format.js";

/** What an unfinished file's name ends with. */
export const PARTIAL = ".partial";

/** Bytes that are gathered before they go to the file. */
const BUFFER_BYTES = 4 * (PAGES_PAYLOAD_MAX + FRAME_HEAD_BYTES);

/** Errors that say that there is no room. */
const FULL: ReadonlySet<string> = new Set(["ENOSPC", "EDQUOT", "EFBIG"]);

/** What of a file the writer uses; a test may refuse in the system's place. */
export interface OutputFile {
  write(bytes: Uint8Array): Promise<{ readonly bytesWritten: number }>;
  sync(): Promise<void>;
  close(): Promise<void>;
}

export type OpenOutput = (path: string) => Promise<OutputFile>;

export const openOutput: OpenOutput = (path) => open(path, "w", 0o600);

export interface Finished {
  readonly bytes: number;
  /** Of all but the footer; lower-case hex. */
  readonly sha256: string;
}

/** Says what the system said in words that a client can use. */
export function refusalOfFile(error: unknown): Error {
  if (error instanceof ServiceError) return error;
  const { code = "", message } = error as NodeJS.ErrnoException;
  if (FULL.has(code)) {
    const why = `There is no room for the snapshot's file (${code}): delete some snapshots first.`;
    return new ServiceError("disk-full", why);
  }
  const why = `The snapshot's file can't be used: ${code === "" ? message : code}.`;
  return new ServiceError("snapshot-file", why);
}

export class SnapshotWriter {
  readonly #path: string;
  readonly #limitBytes: number;
  readonly #file: OutputFile;
  readonly #hash = createHash("sha256");
  readonly #buffer = Buffer.alloc(BUFFER_BYTES);
  #used = 0;
  /** Bytes that have gone to the file. */
  #written = 0;

  private constructor(path: string, limitBytes: number, file: OutputFile) {
    this.#path = path;
    this.#limitBytes = limitBytes;
    this.#file = file;
    this.#used = fileHead().copy(this.#buffer);
    assert(this.#used === HEAD_BYTES, "the head of a file has its size");
  }

  /** @param limitBytes of the whole file */
  static async create(
    path: string,
    limitBytes: number,
    openFile: OpenOutput = openOutput,
  ): Promise<SnapshotWriter> {
    try {
      await mkdir(dirname(path), { recursive: true, mode: 0o700 });
      return new SnapshotWriter(path, limitBytes, await openFile(`${path}${PARTIAL}`));
    } catch (error) {
      throw refusalOfFile(error);
    }
  }

  /** Bytes of the file so far. */
  get bytes(): number {
    return this.#written + this.#used;
  }

  /**
   * Room for a frame's payload, to be filled before `put`. Nothing else may come in between.
   * @param bytes at most PAGES_PAYLOAD_MAX
   */
  async payload(bytes: number): Promise<Buffer> {
    assert(bytes <= PAGES_PAYLOAD_MAX, "a frame's payload is bounded");
    if (this.#used + FRAME_HEAD_BYTES + bytes > BUFFER_BYTES) await this.#flush();
    const at = this.#used + FRAME_HEAD_BYTES;
    return this.#buffer.subarray(at, at + bytes);
  }

  /** Ends the frame whose payload was asked for; it may be shorter. */
  put(type: FrameType, object: number, first: number, count: number, bytes: number): void {
    const end = this.#used + FRAME_HEAD_BYTES + bytes;
    sealFrame(this.#buffer.subarray(this.#used, end), { type, object, first, count, bytes });
    this.#used = end;
  }

  /** The last two frames and the footer; durable under its name when it resolves. */
  async finish(meta: Uint8Array, state: Uint8Array): Promise<Finished> {
    try {
      await this.#flush();
      const metaAt = this.#written;
      await this.#large(FRAME.meta, meta);
      await this.#large(FRAME.state, state);
      const sha256 = this.#hash.digest();
      const bytes = this.#written + FOOTER_BYTES;
      await this.#out(fileFooter(metaAt, bytes, sha256));
      await this.#file.sync();
      await this.#file.close();
      await rename(`${this.#path}${PARTIAL}`, this.#path);
      await syncFolder(dirname(this.#path));
      return { bytes, sha256: sha256.toString("hex") };
    } catch (error) {
      throw refusalOfFile(error);
    }
  }

  /** Nothing of it stays, whatever happened before. */
  async abort(): Promise<void> {
    await this.#file.close().catch(() => {});
    await rm(`${this.#path}${PARTIAL}`, { force: true });
    await rm(this.#path, { force: true });
  }

  async #large(type: FrameType, payload: Uint8Array): Promise<void> {
    const frame = Buffer.alloc(FRAME_HEAD_BYTES + payload.length);
    frame.set(payload, FRAME_HEAD_BYTES);
    sealFrame(frame, { type, object: 0, first: 0, count: 0, bytes: payload.length });
    this.#hash.update(frame);
    await this.#out(frame);
  }

  async #flush(): Promise<void> {
    const full = this.#buffer.subarray(0, this.#used);
    this.#hash.update(full);
    await this.#out(full);
    this.#used = 0;
  }

  async #out(bytes: Uint8Array): Promise<void> {
    if (this.#written + bytes.length > this.#limitBytes) {
      const why = `Snapshots may take ${this.#limitBytes} bytes more, and this one needs more.`;
      throw new ServiceError("disk-full", `${why} Delete some first.`);
    }
    try {
      for (let done = 0; done < bytes.length; ) {
        const { bytesWritten } = await this.#file.write(bytes.subarray(done));
        done += bytesWritten;
      }
    } catch (error) {
      throw refusalOfFile(error);
    }
    this.#written += bytes.length;
  }
}

async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, "r");
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
