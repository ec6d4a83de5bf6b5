// Goal: a snapshot's file gives back what was written, or says that it is broken.
// Method: files of few pages; every byte of one is changed and cut off once.
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { openOutput } from "../../../../src/service/snapshots/file-writer.js";
import {
  LocalSnapshotIo,
  type Step,
  sweepFolder,
} from "../../../../src/service/snapshots/snapshot-io.js";
import { refusalOf } from "../../../support/services.js";

const PAGE = 4096;
const META = Uint8Array.of(1, 2, 3);
const STATE = Uint8Array.of(4, 5);

let folder = "";
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "tidemark-snapshots-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

function memoryOf(pages: number): WebAssembly.Memory {
  return new WebAssembly.Memory({ initial: pages, maximum: 64, shared: true });
}

const sourceOf = (memory: WebAssembly.Memory, more = {}) => ({
  ...{ memory, pageSize: PAGE, object: 1, pa: PAGE, from: 0, to: 20, bitmap: null },
  ...more,
});

async function drain(io: LocalSnapshotIo, job: number, memory: WebAssembly.Memory) {
  const steps: Step[] = [];
  const blocks = [{ object: 1, pa: 2 * PAGE, pages: 20 }];
  for (;;) {
    const step = await io.next(job, { memory, pageSize: PAGE, blocks });
    steps.push(step);
    if (step.kind === "end") return steps;
  }
}

async function small(io: LocalSnapshotIo, path: string): Promise<WebAssembly.Memory> {
  const memory = memoryOf(4);
  const bytes = new Uint8Array(memory.buffer);
  bytes.fill(7, PAGE + 3 * PAGE, PAGE + 5 * PAGE);
  const job = await io.create(path, 1 << 30);
  await io.pages(job, sourceOf(memory, { from: 2, to: 6 }));
  await io.sequences(job, 9, 100, Uint32Array.of(0, 5, 0, 6, 0, 0));
  await io.finish(job, META, STATE);
  return memory;
}

describe("a snapshot's file", () => {
  it("gives back pages, zeros and sequences, each object where it lies now", async () => {
    const io = new LocalSnapshotIo();
    const path = join(folder, "a");
    const memory = memoryOf(4);
    const from = new Uint8Array(memory.buffer);
    for (let page = 0; page < 20; page++) {
      if (page % 3 !== 0) from.fill(page + 1, (page + 1) * PAGE, (page + 2) * PAGE);
    }
    const job = await io.create(path, 1 << 30);
    expect(await io.pages(job, sourceOf(memory))).toEqual({ stored: 13, zero: 7 });
    expect(await io.sequences(job, 9, 100, Uint32Array.of(0, 5, 0, 6, 0, 0))).toBe(2);
    const { bytes, sha256 } = await io.finish(job, META, STATE);
    expect((await readFile(path)).length).toBe(bytes);
    expect(sha256).toMatch(/^[0-9a-f]{64}$/);

    const opened = await io.open(path);
    expect(opened.meta).toEqual(META);
    expect(opened.state).toEqual(STATE);
    const into = memoryOf(4);
    new Uint8Array(into.buffer).fill(0xff);
    const steps = await drain(io, opened.job, into);
    await io.leave(opened.job);
    const sequences = { kind: "sequences", object: 9, first: 101 };
    expect(steps).toContainEqual({ ...sequences, sequences: Uint32Array.of(5, 0, 6) });
    const to = new Uint8Array(into.buffer);
    expect(to.slice(2 * PAGE, 22 * PAGE)).toEqual(from.slice(PAGE, 21 * PAGE));
    expect(to[2 * PAGE - 1]).toBe(0xff);
    expect(to[22 * PAGE]).toBe(0xff);
  });

  it("holds only the marked pages", async () => {
    const io = new LocalSnapshotIo();
    const path = join(folder, "a");
    const memory = memoryOf(4);
    new Uint8Array(memory.buffer).fill(1);
    const job = await io.create(path, 1 << 30);
    const bitmap = Uint8Array.of(0, 0b1000_0001, 0b0000_1111);
    expect(await io.pages(job, sourceOf(memory, { bitmap, to: 19 }))).toEqual({
      ...{ stored: 5, zero: 0 },
    });
    await io.finish(job, META, STATE);
    const opened = await io.open(path);
    const into = memoryOf(4);
    await drain(io, opened.job, into);
    await io.leave(opened.job);
    const pages = Array.from(
      { length: 20 },
      (_, page) => new Uint8Array(into.buffer)[(page + 2) * PAGE],
    );
    const marked = pages.flatMap((byte, page) => (byte === 1 ? [page] : []));
    expect(marked).toEqual([8, 15, 16, 17, 18]);
  });

  it("is refused with any byte changed, and cut off anywhere", async () => {
    const io = new LocalSnapshotIo();
    const path = join(folder, "a");
    await small(io, path);
    const good = await readFile(path);
    const tried = async (bytes: Uint8Array): Promise<string> => {
      await writeFile(path, bytes);
      const opening = io.open(path);
      const refused = await refusalOf(opening);
      if (refused !== "no refusal") return refused;
      const { job } = await opening;
      const reading = await refusalOf(drain(io, job, memoryOf(4)));
      await io.leave(job);
      return reading;
    };
    expect(await tried(good)).toBe("no refusal");
    // Content of pages is covered by one checksum: a few of its bytes stand for all.
    const places = Array.from(good.keys()).filter((at) => at < 200 || at > good.length - 400);
    for (const at of [...places, 1000, 4200, 8191]) {
      const bytes = Buffer.from(good);
      bytes[at] = (bytes[at] ?? 0) ^ 0x10;
      expect([at, await tried(bytes)]).toEqual([at, "snapshot-broken"]);
    }
    for (const end of [0, 1, 15, 16, 80, 200, 5000, good.length - 64, good.length - 1]) {
      expect([end, await tried(good.subarray(0, end))]).toEqual([end, "snapshot-broken"]);
    }
    expect(await tried(Buffer.concat([good, Buffer.alloc(1)]))).toBe("snapshot-broken");
  });

  it("is not there before it is complete, and nothing stays of one that was given up", async () => {
    const io = new LocalSnapshotIo();
    const job = await io.create(join(folder, "a"), 1 << 30);
    await io.pages(job, sourceOf(memoryOf(4)));
    expect(await readdir(folder)).toEqual(["a.partial"]);
    await io.abort(job);
    expect(await readdir(folder)).toEqual([]);
    expect(await refusalOf(io.open(join(folder, "a")))).toBe("snapshot-file");
  });

  it("says that there is no room, by its own limit and by the system's word", async () => {
    const memory = memoryOf(4);
    new Uint8Array(memory.buffer).fill(1);
    const limited = new LocalSnapshotIo();
    const job = await limited.create(join(folder, "a"), 10 * PAGE);
    await limited.pages(job, sourceOf(memory));
    expect(await refusalOf(limited.finish(job, META, STATE))).toBe("disk-full");
    await limited.abort(job);

    let left = 8 * PAGE;
    const full = new LocalSnapshotIo(async (path) => {
      const file = await openOutput(path);
      const write = async (bytes: Uint8Array) => {
        left -= bytes.length;
        if (left < 0) throw Object.assign(new Error("no space"), { code: "ENOSPC" });
        return file.write(bytes);
      };
      return { write, sync: () => file.sync(), close: () => file.close() };
    });
    const second = await full.create(join(folder, "b"), 1 << 30);
    await full.pages(second, sourceOf(memory));
    expect(await refusalOf(full.finish(second, META, STATE))).toBe("disk-full");
    await full.abort(second);
    expect(await readdir(folder)).toEqual([]);
  });

  it("keeps files that have a record, and no other", async () => {
    const io = new LocalSnapshotIo();
    await small(io, join(folder, "a"));
    await writeFile(join(folder, "b.partial"), "half");
    await writeFile(join(folder, "c"), "nobody's");
    const kept = await sweepFolder(folder, ["a", "gone"]);
    expect([...kept.keys()]).toEqual(["a"]);
    expect(await readdir(folder)).toEqual(["a"]);
  });
});
