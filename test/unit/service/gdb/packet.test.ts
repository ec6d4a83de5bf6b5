// Goal: the stream of a debugger is cut into the same packets however it comes, and nothing in it
// does more than end the session.
// Method: hand-made streams, then random ones from a seed, whole, in pieces and damaged.
import { describe, expect, it } from "vitest";
import { Prng } from "../../../../src/base/prng.js";
import { PACKET_BYTES_MAX } from "../../../../src/service/gdb/limits.js";
import { type Frame, FrameReader, frame } from "../../../../src/service/gdb/packet.js";

const read = (...pieces: string[]): Frame[] => {
  const reader = new FrameReader();
  return pieces.flatMap((piece) => [...reader.feed(piece)]);
};
const packet = (body: string): Frame => ({ kind: "packet", body });

describe("frames", () => {
  it("have a checksum, and escape what would end them", () => {
    expect(frame("OK")).toBe("$OK#9a");
    expect(frame("")).toBe("$#00");
    const body = "a}b$c#d*e\x03+-";
    expect(frame(body).slice(0, -3)).toBe("$a}]b}\x04c}\x03d}\ne\x03+-");
    expect(read(frame(body))).toEqual([packet(body)]);
  });

  it("come whole, byte by byte, and several at once", () => {
    const stream = `+${frame("g")}-\x03${frame("m0,4")}junk${frame("X0,1:}")}`;
    const expected = [
      { kind: "ack" },
      packet("g"),
      { kind: "nack" },
      { kind: "interrupt" },
      packet("m0,4"),
      packet("X0,1:}"),
    ];
    expect(read(stream)).toEqual(expected);
    expect(read(...stream)).toEqual(expected);
  });

  it("with a wrong checksum are damaged, and the next one is good again", () => {
    expect(read("$g#00$g#zz$g#67")).toEqual([
      { kind: "damaged" },
      { kind: "damaged" },
      packet("g"),
    ]);
    expect(read("$g#6", "8$g#67")).toEqual([{ kind: "damaged" }, packet("g")]);
  });

  it("have a longest body", () => {
    const longest = "x".repeat(PACKET_BYTES_MAX);
    expect(read(frame(longest))).toEqual([packet(longest)]);
    expect(read(frame(`${longest}x`))).toEqual([{ kind: "too-long" }]);
    expect(read(`$${longest}`, "x")).toEqual([{ kind: "too-long" }]);
    const reader = new FrameReader();
    let kinds: string[] = [];
    for (let n = 0; n < 1000 && kinds.length === 0; n++) {
      kinds = [...reader.feed(n === 0 ? "$" : "y".repeat(100))].map(({ kind }) => kind);
    }
    expect(kinds, "a packet that never ends").toEqual(["too-long"]);
  });
});

describe("random streams", () => {
  const prng = new Prng(20n);
  const byte = (): string => String.fromCharCode(prng.below(256));
  const text = (length: number): string => Array.from({ length }, byte).join("");

  it("of packets come back as they were, in pieces of any size", () => {
    for (let round = 0; round < 200; round++) {
      const bodies = Array.from({ length: 1 + prng.below(5) }, () => text(prng.below(60)));
      const stream = bodies.map(frame).join("");
      const pieces: string[] = [];
      for (let at = 0; at < stream.length; ) {
        const length = 1 + prng.below(20);
        pieces.push(stream.slice(at, at + length));
        at += length;
      }
      expect(read(...pieces)).toEqual(bodies.map(packet));
    }
  });

  it("of noise never throw, and never make a packet with a wrong checksum", () => {
    const signs = "$#}+-\x03";
    for (let round = 0; round < 2000; round++) {
      const noise = Array.from({ length: prng.below(80) }, () =>
        prng.below(3) === 0 ? (signs[prng.below(signs.length)] ?? "") : byte(),
      ).join("");
      for (const one of read(noise)) {
        if (one.kind !== "packet") continue;
        const found = [...noise.matchAll(/\$([^#]*)#([0-9a-fA-F]{2})/gs)].map(([all]) => all);
        expect(found.length, JSON.stringify(noise)).toBeGreaterThan(0);
      }
    }
  });
});
