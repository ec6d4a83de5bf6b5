// Owns: GET_DIRTY_LOG of a 64 GiB slot as octet-stream against a bare route of the same process
// that sends as many bytes. Nothing is cached: every answer is read from the live bitmap while a
// vCPU stores at full speed. One client, one connection to each, turns of a few requests.
import { Connection } from "./support/client.js";
import { GIB, Guest, MIB, storesFor } from "./support/guest.js";
import { type HostProcess, startHost } from "./support/host-process.js";
import { compare, quantile } from "./support/measure.js";
import type { BenchContext } from "./support/subject.js";

const BAR = { on: "ratio", at: "most", value: 1.3 } as const;
const DIRTY_SHARE = 0.02;
/** Requests that follow each other on one side before it is the other's turn, at most. */
const TURN = 10;
/** Where a request takes long, turns and rounds are as many as fit these times. */
const TURN_MS = 200;
const ROUND_MS = 2000;
/** What the storing vCPU touches: large enough to miss its TLB, too small to change the 2 %. */
const STORED_BYTES = 64 * MIB;

interface Side {
  readonly connection: Connection;
  readonly path: string;
}

async function send({ connection, path }: Side, bytes: number): Promise<number> {
  const start = performance.now();
  const answer = await connection.request("GET", path);
  const elapsed = performance.now() - start;
  if (answer.status !== 200 || answer.bytes !== bytes) {
    throw new Error(`${path} answered ${answer.status} with ${answer.bytes} bytes`);
  }
  return elapsed;
}

/** Both sides in turns; medians of each round. */
async function measure(context: BenchContext, ours: Side, theirs: Side, bytes: number) {
  await send(ours, bytes);
  const one = await send(ours, bytes);
  const each = Math.max(1, Math.min(TURN, Math.floor(TURN_MS / one)));
  const turns = context.quick ? 2 : Math.max(1, Math.min(TURN, Math.floor(ROUND_MS / one / each)));
  const side = (of: Side) => async () => {
    const times: number[] = [];
    for (let n = 0; n < each; n++) times.push(await send(of, bytes));
    return times;
  };
  const round = async (first: () => Promise<number[]>, second: () => Promise<number[]>) => {
    const [a, b]: [number[], number[]] = [[], []];
    for (let turn = 0; turn < turns; turn++) {
      a.push(...(await first()));
      b.push(...(await second()));
    }
    return [quantile(a, 0.5), quantile(b, 0.5), quantile(a, 0.99)] as const;
  };
  await round(side(ours), side(theirs));
  let latest: readonly [number, number, number] = [0, 0, 0];
  const tails: number[] = [];
  const compared = await compare(
    context.quick ? 3 : 9,
    async () => {
      latest = await round(side(ours), side(theirs));
      tails.push(latest[2]);
      return latest[0];
    },
    () => latest[1],
  );
  return { ...compared, p99: quantile(tails, 0.5) };
}

async function subject(
  context: BenchContext,
  host: HostProcess,
  tracking: "write-protect" | "dbm",
): Promise<void> {
  const bytes = (context.quick ? 4 : 64) * GIB;
  const guest = await Guest.create(host.api, { bytes, dirtyTracking: tracking });
  const count = storesFor(DIRTY_SHARE, guest.pages);
  await guest.program({ pattern: "uniform", bytes, count });
  await guest.finish();
  const dirty = await guest.dirtyPages();
  await host.sendOctets(guest.bitmapBytes);
  const ours = { connection: await Connection.open(host.port), path: guest.logPath };
  const theirs = { connection: await Connection.open(host.barePort), path: "/octets" };
  const idle = await measure(context, ours, theirs, guest.bitmapBytes);
  await guest.program({ pattern: "uniform", bytes: STORED_BYTES, count: 0 });
  const run = await guest.start();
  const busy = await measure(context, ours, theirs, guest.bitmapBytes);
  await guest.kick(run);
  ours.connection.close();
  theirs.connection.close();
  await guest.delete();
  const size = `${bytes / GIB} GiB, ${tracking}`;
  context.note(
    `${size}: ${((100 * dirty) / guest.pages).toFixed(2)} % dirty; bare route ` +
      `${busy.theirs.toFixed(3)} ms (${idle.theirs.toFixed(3)} without a store), ` +
      `p99 ${busy.p99.toFixed(2)} ms`,
  );
  const held = tracking === "write-protect" ? { bar: BAR } : {};
  context.report({
    what: `GET p50, ${size}, a vCPU stores`,
    figure: busy.ours,
    unit: "ms",
    ratio: busy.ratio,
    ...held,
  });
  context.report({
    what: `GET p50, ${size}, idle`,
    figure: idle.ours,
    unit: "ms",
    ratio: idle.ratio,
  });
}

export default async function dirtyLogGet(context: BenchContext): Promise<void> {
  const host = await startHost(context);
  try {
    await subject(context, host, "write-protect");
    await subject(context, host, "dbm");
  } finally {
    await host.end();
  }
}
