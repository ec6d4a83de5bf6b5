// Goal: the guest benchmark reads lines, ratios and bars as it says.
// Method: transcripts and samples by hand.
import { describe, expect, it } from "vitest";
import { imageFor, PHASES } from "../../bench/guest/support/image.js";
import { Pl011 } from "../../bench/guest/support/pl011.js";
import {
  checkSums,
  logRowOf,
  means,
  missed,
  type Row,
  rowOf,
  tableOf,
} from "../../bench/guest/support/rows.js";
import { type Sample, Transcript } from "../../bench/guest/support/transcript.js";

const SUM = "0123456789abcdef";

describe("transcript", () => {
  it("takes host time between the lines, and the guest's ticks", () => {
    const waits: string[] = [];
    const transcript = new Transcript((phase) => waits.push(phase));
    let now = 0;
    const say = (text: string) => {
      for (const character of text) transcript.take(character, now++, 10 * now);
    };
    say("wait touch\nbegin touch\n");
    now += 100;
    say(`phase touch ticks 5000 freq 1000000 sum ${SUM}\nend\n`);
    expect(waits).toEqual(["touch"]);
    expect(transcript.ended).toBe(true);
    expect(transcript.samples).toEqual([
      {
        phase: "touch",
        repetition: 0,
        guestMs: 5,
        hostMs: 101,
        sum: SUM,
        instructions: 1010,
      },
    ]);
  });

  it("refuses what the image doesn't print", () => {
    const transcript = new Transcript();
    transcript.take("!", 0);
    expect(() => transcript.take("\n", 0)).toThrow('"!"');
  });
});

function samples(phase: string, times: readonly number[]): Sample[] {
  return times.map((ms, repetition) => {
    return { phase, repetition, guestMs: ms, hostMs: ms, sum: SUM, instructions: 2e6 };
  });
}
const time = (sample: Sample) => sample.hostMs;
const options = { tier0: false, times: { ours: time, qemu: time } };

describe("rows", () => {
  // Warm medians: 10 against 20, 20 against 20, 40 against 20.
  const rounds = [
    { ours: samples("alu", [50, 10, 10, 99]), qemu: samples("alu", [25, 20, 20, 20]) },
    { ours: samples("alu", [50, 20, 20, 1]), qemu: samples("alu", [25, 20, 20, 20]) },
    { ours: samples("alu", [50, 40, 40, 40]), qemu: samples("alu", [25, 20, 20, 20]) },
  ];

  it("are medians of the rounds' ratios, the first repetition apart", () => {
    expect(rowOf("alu", rounds, options)).toEqual({
      phase: "alu",
      millions: 2,
      qemuMs: 20,
      oursMs: 20,
      ratio: 1,
      firstRatio: 0.5,
      firstExtraMs: 30,
      bar: 0.7,
    });
  });

  it("of a log are of the repetition that counts", () => {
    const row = logRowOf("log", 1, rounds, { ...options, bar: 2 });
    expect(row).toMatchObject({ oursMs: 20, qemuMs: 20, ratio: 1, bar: 2 });
    expect(tableOf([row])).toContain("MISSED");
  });

  it("need equal checksums", () => {
    const [good = { ours: [], qemu: [] }] = rounds;
    expect(() => checkSums(good)).not.toThrow();
    const other = good.qemu.map((sample) => ({ ...sample, sum: "0" }));
    expect(() => checkSums({ ...good, qemu: other })).toThrow("checksums differ");
    expect(() => checkSums({ ...good, ours: good.ours.slice(1) })).toThrow();
  });

  it("have a bar on the mean only when all of its rows are there", () => {
    const rowWith = (phase: string, ratio: number): Row => {
      const bar = 0.7;
      return {
        phase,
        millions: 1,
        qemuMs: 1,
        oursMs: 1,
        ratio,
        firstRatio: 1,
        firstExtraMs: 0,
        bar,
      };
    };
    const all = ["alu", "calls", "indirect", "sum", "memcpy", "sha256"].map((phase, at) =>
      rowWith(phase, at % 2 === 0 ? 2 : 0.5),
    );
    const [mean] = means(all, false);
    expect(mean?.ratio).toBeCloseTo(1);
    expect(mean?.bar).toBe(1);
    expect(missed(all, [])).toBe(3);
    expect(means(all.slice(1), false)[0]?.bar).toBeNull();
    expect(means(all, true)[0]?.bar).toBeNull();
  });
});

describe("the image's words", () => {
  it("hold phases, repetitions, waits and shift", () => {
    const image = imageFor({
      phases: ["alu", "touch"],
      repetitions: 7,
      waiting: ["touch"],
      shift: 3,
    });
    const words = new Uint32Array(image.buffer.slice(16, 32));
    const touch = 2 ** PHASES.indexOf("touch");
    expect([...words]).toEqual([1 + touch, 7, touch, 3]);
  });
});

describe("the UART", () => {
  it("has nothing to read until something arrives", () => {
    const said: string[] = [];
    const uart = new Pl011((character) => said.push(character));
    uart.write(0, 0x41);
    expect(said).toEqual(["A"]);
    expect(uart.read(0x18)).toBe(0x90);
    uart.receive(0x0a);
    expect([uart.read(0x18), uart.read(0), uart.read(0x18)]).toEqual([0x80, 0x0a, 0x90]);
  });
});
