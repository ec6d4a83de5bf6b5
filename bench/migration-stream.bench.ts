// Owns: bytes per second of a migration's page stream against a bare Node octet-stream POST of the
// same bytes in the same process: each side two threads, one that sends and one that receives,
// in turns.
import { Worker } from "node:worker_threads";
import { systemClock } from "../dist/base/clock.js";
import { silentLog } from "../dist/base/log.js";
import { startDataPlane } from "../dist/migration/data-plane/thread-data-plane.js";
import { STREAM_VERSIONS } from "../dist/migration/index.js";
import type { DirtyPages, MemoryMap } from "../dist/runtime/index.js";
import { MIB, PAGE } from "./support/guest.js";
import { compare, timedAsync } from "./support/measure.js";
import type { BenchContext } from "./support/subject.js";

const BAR = { on: "ratio", at: "least", value: 0.5 } as const;
const SETTINGS = {
  host: "127.0.0.1",
  port: 0,
  tls: null,
  url: null,
  giveUpMs: 10_000,
  stallMs: 10_000,
  connectionsMax: 16,
  sessionsMax: 16,
};

/** Takes a POST in and forgets it; tells its port. */
const SINK = `
const { parentPort } = require("node:worker_threads");
const server = require("node:http").createServer((request, answer) => {
  request.on("data", () => {});
  request.on("end", () => answer.end());
});
server.listen(0, "127.0.0.1", () => parentPort.postMessage(server.address().port));
`;

/** Sends as many megabytes of a memory as it is told, one write each, as they are. */
const SOURCE = `
const { parentPort, workerData } = require("node:worker_threads");
const { port, memory } = workerData;
parentPort.on("message", (count) => {
  const headers = { "content-type": "application/octet-stream" };
  const request = require("node:http").request({ port, method: "POST", headers }, (answer) => {
    answer.resume();
    answer.on("end", () => parentPort.postMessage("done"));
  });
  let left = count;
  const more = () => {
    while (left > 0) {
      left -= 1;
      const chunk = Buffer.from(memory, left * 2 ** 20, 2 ** 20);
      if (!request.write(chunk)) return request.once("drain", more);
    }
    request.end();
  };
  more();
});
`;

function message(worker: Worker): Promise<unknown> {
  return new Promise((resolve, reject) => {
    worker.once("error", reject);
    worker.once("message", (value) => {
      worker.off("error", reject);
      resolve(value);
    });
  });
}

class Bare {
  readonly #sink: Worker;
  readonly #source: Worker;

  private constructor(sink: Worker, source: Worker) {
    this.#sink = sink;
    this.#source = source;
  }

  static async start(memory: SharedArrayBuffer): Promise<Bare> {
    const sink = new Worker(SINK, { eval: true });
    const workerData = { port: await message(sink), memory };
    return new Bare(sink, new Worker(SOURCE, { eval: true, workerData }));
  }

  async post(mebibytes: number): Promise<void> {
    this.#source.postMessage(mebibytes);
    await message(this.#source);
  }

  async close(): Promise<void> {
    await this.#sink.terminate();
    await this.#source.terminate();
  }
}

function mapOf(bytes: number): MemoryMap {
  const pages = bytes / 65_536 + 1;
  const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
  const blocks = [{ object: 1, bytes, backing: "ram" as const, pa: 65_536, contentPage: 0 }];
  return { pageSize: PAGE, memory, blocks, unbackedSeed: 1 };
}

/** Content that no page shares with another, and that doesn't compress. */
function fill(map: MemoryMap): void {
  const words = new Uint32Array(map.memory.buffer);
  let x = 1;
  for (let i = 0; i < words.length; i++) {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    words[i] = x;
  }
}

const NO_SEQUENCES = {
  read: async (_object: number, _first: number, count: number) => new Uint32Array(count),
  write: async () => {},
};

/** Every third page, as a late round of a busy guest has them. */
function sparse(bytes: number): { pages: DirtyPages; bytes: number } {
  const count = bytes / PAGE;
  const bitmap = new Uint8Array(count / 8);
  let pages = 0;
  for (let page = 0; page < count; page += 3, pages++) bitmap[page >> 3]! |= 1 << (page & 7);
  return { pages: { blocks: [{ object: 1, pages: count, bitmap }], pages }, bytes: pages * PAGE };
}

async function stream(context: BenchContext, bytes: number, channels: number) {
  const [source, target] = [mapOf(bytes), mapOf(bytes)];
  fill(source);
  const bare = await Bare.start(source.memory.buffer);
  const planes = [
    await startDataPlane(SETTINGS, silentLog),
    await startDataPlane(SETTINGS, silentLog),
  ];
  const session = "bench";
  const common = { session, stream: STREAM_VERSIONS[0]!, channels, sequences: NO_SEQUENCES };
  const incoming = await planes[1]!.accept({ ...common, memory: target });
  const outgoing = await planes[0]!.open({
    ...common,
    url: incoming.url,
    secret: incoming.secret,
    trust: null,
    compression: "none",
    deltaCacheBytes: 2 ** 26,
    bandwidthBytesPerSecond: 0,
    memory: source,
  });
  const send = (pages: DirtyPages | null) => timedAsync(() => outgoing.send(pages, () => {}));
  const post = (size: number) => timedAsync(() => bare.post(Math.ceil(size / MIB)));
  const who = `${channels === 1 ? "1 channel" : `${channels} channels`}`;
  const rounds = context.quick ? 2 : 7;
  const late = sparse(bytes);
  // The target's memory is found by the machine once, not in every round.
  await send(null);
  await post(bytes);
  for (const [what, pages, size] of [
    ["every page", null, bytes],
    ["every third page", late.pages, late.bytes],
  ] as const) {
    const compared = await compare(
      rounds,
      () => send(pages),
      () => post(size),
    );
    context.note(
      `${what}, ${who}: bare ${Math.round(size / MIB / (compared.theirs / 1000))} MiB/s`,
    );
    context.report({
      what: `${what}, ${who}`,
      figure: size / MIB / (compared.ours / 1000),
      unit: "MiB/s",
      ratio: 1 / compared.ratio,
      ...(pages === null && { bar: BAR }),
    });
  }
  const start = systemClock.monotonicMs();
  const digests = [await outgoing.digest(), await incoming.digest()];
  const ms = systemClock.monotonicMs() - start;
  if (digests[0] !== digests[1]) throw new Error("the memories differ");
  context.report({ what: "digest", figure: (2 * bytes) / MIB / (ms / 1000), unit: "MiB/s" });
  for (const plane of planes) await plane.close();
  await bare.close();
}

export default async function migrationStream(context: BenchContext): Promise<void> {
  const bytes = (context.quick ? 256 : 1024) * MIB;
  for (const channels of [1, 2]) await stream(context, bytes, channels);
}
