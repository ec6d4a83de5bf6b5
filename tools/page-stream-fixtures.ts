// Owns: `npm run fixtures:stream`: records page streams of the newest version, for a target of any
// later one to accept. Own process. A recording is never made anew once its version is released.
import { mkdirSync, writeFileSync } from "node:fs";
import { systemClock } from "../src/base/clock.js";
import { Prng } from "../src/base/prng.js";
import type { Compression } from "../src/migration/types.js";
import { STREAM_VERSIONS } from "../src/migration/wire/frame.js";
import { OutgoingStream } from "../src/migration/wire/outgoing-stream.js";
import type { ChannelListener } from "../src/migration/wire/transport.js";
import { dirty, fill, outgoingSpec, side } from "../test/support/page-stream.js";

const FOLDER = new URL("../test/fixtures/page-stream/", import.meta.url);
const SHAPE = { ramPages: 24, unbackedPages: 12 };
const ignore = () => {};

/** A channel whose target has applied whatever it is sent. */
function recorder() {
  const parts: Uint8Array[] = [];
  let offset = 0;
  const channel = {
    applied: async () => ({ offset, frame: 0 }),
    connect: async (_offset: number, listener: ChannelListener) => ({
      write: (bytes: Uint8Array) => {
        parts.push(bytes.slice());
        offset += bytes.length;
        const applied = { offset, frame: 0 };
        queueMicrotask(() => listener.onApplied(applied));
      },
      close: ignore,
    }),
  };
  return { channel, bytes: () => Buffer.concat(parts) };
}

/** Rounds of pre-copy, then, without changes to RAM, of post-copy. */
async function record(version: number, compression: Compression) {
  const one = side(SHAPE);
  fill(one, 42n);
  const channels = [recorder(), recorder()];
  const transports = {
    channel: (number: number) => channels[number]!.channel,
    demands: { listen: async () => ({ close: ignore }) },
  };
  const to = { url: "", secret: "" };
  const spec = outgoingSpec(one, to, { stream: version, compression });
  const stream = new OutgoingStream(spec, transports, systemClock, { giveUpMs: 1, stallMs: 1000 });
  await stream.send(null, ignore);
  const prng = new Prng(7n);
  for (let round = 0; round < 3; round++) await stream.send(dirty(one, prng, 8), ignore);
  const left = dirty(one, prng, 6);
  await stream.discard(left);
  await stream.push(left, ignore);
  const digest = await stream.digest();
  await stream.close();
  return { bytes: channels[0]!.bytes(), digest };
}

const version = STREAM_VERSIONS[0]!;
mkdirSync(FOLDER, { recursive: true });
for (const compression of ["none", "deflate", "delta"] as const) {
  const { bytes, digest } = await record(version, compression);
  const name = `v${version}-${compression}`;
  writeFileSync(new URL(`${name}.bin`, FOLDER), bytes);
  const about = { version, session: "mig_1", shape: SHAPE, digest };
  writeFileSync(new URL(`${name}.json`, FOLDER), `${JSON.stringify(about, null, 2)}\n`);
  console.log(`${name}: ${bytes.length} bytes, digest ${digest}`);
}
