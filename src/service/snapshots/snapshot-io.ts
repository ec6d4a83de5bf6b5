// Owns: snapshot files by jobs: pages in and out of a VM's shared memory, beside its thread and the
// HTTP thread. In the snapshot thread, or inline in tests.
import { mkdir, readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { assert } from "../../base/assert.js";
import { SnapshotReader } from "./file-reader.js";
import { type Finished, type OpenOutput, refusalOfFile, SnapshotWriter } from "./file-writer.js";
import { broken, FRAME } from "./format.js";
import {
  applyPages,
  type PageSource,
  type PageTarget,
  sequencesOf,
  type Written,
  writePages,
  writeSequences,
} from "./page-frames.js";

export type { Finished, PageSource, PageTarget, Written };

/** What a file says of itself, and its VM's state. */
export interface Opened {
  readonly job: number;
  readonly meta: Uint8Array;
  readonly state: Uint8Array;
}

/** How far a restore has come. */
export type Step =
  | { readonly kind: "pages"; readonly pages: number }
  | {
      readonly kind: "sequences";
      readonly object: number;
      readonly first: number;
      readonly sequences: Uint32Array;
    }
  /** The whole file is read, and its digest is right. */
  | { readonly kind: "end" };

/** @throws ServiceError "disk-full", "snapshot-file", "snapshot-broken" */
export interface SnapshotIo {
  /** Begins a file. @param limitBytes of all of it @returns the job's number */
  create(path: string, limitBytes: number): Promise<number>;
  pages(job: number, source: PageSource): Promise<Written>;
  /** @returns pages that were stored to */
  sequences(job: number, object: number, first: number, sequences: Uint32Array): Promise<number>;
  /** Durable when it resolves; ends the job. */
  finish(job: number, meta: Uint8Array, state: Uint8Array): Promise<Finished>;
  /** The file never was; ends the job. */
  abort(job: number): Promise<void>;
  open(path: string): Promise<Opened>;
  /** Puts pages into place until something is to be said. */
  next(job: number, target: PageTarget): Promise<Step>;
  /** Ends a job that reads. */
  leave(job: number): Promise<void>;
  remove(path: string): Promise<void>;
  close(): Promise<void>;
}

/** Pages between two words of how far it is. */
const PAGES_PER_STEP = 16_384;

export class LocalSnapshotIo implements SnapshotIo {
  readonly #openFile: OpenOutput | undefined;
  readonly #writers = new Map<number, SnapshotWriter>();
  readonly #readers = new Map<number, SnapshotReader>();
  #nextJob = 1;

  /** @param openFile in place of the system's */
  constructor(openFile?: OpenOutput) {
    this.#openFile = openFile;
  }

  async create(path: string, limitBytes: number): Promise<number> {
    const job = this.#nextJob++;
    this.#writers.set(job, await SnapshotWriter.create(path, limitBytes, this.#openFile));
    return job;
  }

  pages(job: number, source: PageSource): Promise<Written> {
    return writePages(this.#writer(job), source);
  }

  sequences(job: number, object: number, first: number, list: Uint32Array): Promise<number> {
    return writeSequences(this.#writer(job), object, first, list);
  }

  async finish(job: number, meta: Uint8Array, state: Uint8Array): Promise<Finished> {
    const finished = await this.#writer(job).finish(meta, state);
    this.#writers.delete(job);
    return finished;
  }

  async abort(job: number): Promise<void> {
    const writer = this.#writers.get(job);
    this.#writers.delete(job);
    await writer?.abort();
  }

  async open(path: string): Promise<Opened> {
    const reader = await SnapshotReader.open(path);
    const job = this.#nextJob++;
    this.#readers.set(job, reader);
    return { job, meta: reader.meta, state: reader.state };
  }

  async next(job: number, target: PageTarget): Promise<Step> {
    const reader = this.#readers.get(job);
    assert(reader !== undefined, "a snapshot that is read is open");
    let pages = 0;
    while (pages < PAGES_PER_STEP) {
      const frame = await reader.next();
      if (frame === null) return pages > 0 ? { kind: "pages", pages } : { kind: "end" };
      if (frame.type === FRAME.sequences) {
        const { object, first } = frame;
        return { kind: "sequences", object, first, sequences: sequencesOf(frame) };
      }
      if (frame.type !== FRAME.pages && frame.type !== FRAME.zero) {
        throw broken(`it has a frame of type ${frame.type}`);
      }
      applyPages(frame, target);
      pages += frame.count;
    }
    return { kind: "pages", pages };
  }

  async leave(job: number): Promise<void> {
    const reader = this.#readers.get(job);
    this.#readers.delete(job);
    await reader?.close();
  }

  async remove(path: string): Promise<void> {
    await rm(path, { force: true });
  }

  async close(): Promise<void> {
    for (const job of [...this.#writers.keys()]) await this.abort(job);
    for (const job of [...this.#readers.keys()]) await this.leave(job);
  }

  #writer(job: number): SnapshotWriter {
    const writer = this.#writers.get(job);
    assert(writer !== undefined, "a snapshot that is written is open");
    return writer;
  }
}

/** Removes what has none of these names. @returns bytes by name of what stays */
export async function sweepFolder(
  folder: string,
  names: readonly string[],
): Promise<ReadonlyMap<string, number>> {
  const keep = new Set(names);
  const kept = new Map<string, number>();
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    for (const name of await readdir(folder)) {
      const path = join(folder, name);
      if (keep.has(name)) kept.set(name, (await stat(path)).size);
      else await rm(path, { recursive: true, force: true });
    }
  } catch (error) {
    throw refusalOfFile(error);
  }
  return kept;
}
