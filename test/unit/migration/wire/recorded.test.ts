// Goal: a target accepts what sources of every released version send.
// Method: recorded streams (tools/page-stream-fixtures.ts), whole and in pieces, into empty memory.
import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { systemClock } from "../../../../src/base/clock.js";
import { STREAM_VERSIONS, typesOf } from "../../../../src/migration/wire/frame.js";
import { FrameReader } from "../../../../src/migration/wire/frame-reader.js";
import { IncomingStream } from "../../../../src/migration/wire/incoming-stream.js";
import { incomingSpec, side } from "../../../support/page-stream.js";

const FOLDER = new URL("../../../fixtures/page-stream/", import.meta.url);
const NAMES = readdirSync(FOLDER)
  .filter((file) => file.endsWith(".bin"))
  .map((file) => file.replace(".bin", ""));

interface About {
  readonly version: number;
  readonly session: string;
  readonly shape: { readonly ramPages: number; readonly unbackedPages: number };
  readonly digest: string;
}

function read(name: string): { about: About; bytes: Buffer } {
  const about = JSON.parse(readFileSync(new URL(`${name}.json`, FOLDER), "utf8")) as About;
  return { about, bytes: readFileSync(new URL(`${name}.bin`, FOLDER)) };
}

describe("recorded streams", () => {
  for (const name of NAMES) {
    it(`are accepted: ${name}`, async () => {
      const { about, bytes } = read(name);
      for (const piece of [bytes.length, 1000]) {
        const to = side(about.shape);
        const { session, version: stream } = about;
        const incoming = new IncomingStream(incomingSpec(to, { session, stream }), systemClock);
        const listener = { onApplied: () => {}, onDisplaced: () => {} };
        const feed = await incoming.channel(0).attach(0, listener);
        for (let at = 0; at < bytes.length; at += piece) {
          await feed.push(bytes.subarray(at, at + piece));
        }
        expect(incoming.channel(0).applied.offset).toBe(bytes.length);
        expect(await incoming.digest()).toBe(about.digest);
        incoming.close();
      }
    });
  }

  it.each(STREAM_VERSIONS)("hold every type of frame that version %i has", (version) => {
    const found = new Set<number>();
    for (const { about, bytes } of NAMES.map(read)) {
      if (about.version !== version) continue;
      const expected = { ...about, channel: 0, pageSize: 4096 };
      const reader = new FrameReader(expected, { landings: () => null });
      for (let at = 0; at < bytes.length; ) {
        const { next, frame } = reader.take(bytes, at);
        if (frame !== null) found.add(frame.type);
        at = next;
      }
    }
    expect([...found].sort()).toEqual([...typesOf(version)].sort());
  });
});
