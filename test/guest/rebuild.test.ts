// Goal: the committed benchmark image is what its sources make, and computes what it should.
// Method: digests of sources and image against the record; a short run on Tidemark against sums
// that QEMU's guest found; a new build where the cross compiler is.
import { describe, expect, it } from "vitest";
import {
  buildImage,
  committedImage,
  committedRecord,
  compiler,
  imageDigest,
  PHASES,
  RECORDED_SHIFT,
  sourcesDigest,
} from "../../bench/guest/support/image.js";
import { runOnTidemark } from "../../bench/guest/support/tidemark.js";
import { missing } from "../../tools/debian.mjs";

const REBUILD = "npm run bench:guest -- --build";
const work = { phases: PHASES, repetitions: 1, shift: RECORDED_SHIFT };

function sumsOf(image: Uint8Array, tier0 = false): Record<string, string> {
  const { samples } = runOnTidemark(work, { image, clock: "virtual", tier0 });
  return Object.fromEntries(samples.map(({ phase, sum }) => [phase, sum]));
}

/** The images agree: in bytes under the same compiler, else in what they compute. */
function compareBuilds(here: string): void {
  const record = committedRecord();
  const built = buildImage();
  if (here === record.compiler) expect(imageDigest(built), REBUILD).toBe(record.image);
  else expect(sumsOf(built)).toEqual(record.sums);
}

describe("the benchmark's guest image", () => {
  it("is recorded with the sources it was made from", () => {
    const record = committedRecord();
    expect(record.sources, `sources have changed: ${REBUILD}`).toBe(sourcesDigest());
    expect(record.image, `the image has changed: ${REBUILD}`).toBe(imageDigest(committedImage()));
  });

  it.each([
    ["with translation", false],
    ["with the interpreter alone", true],
  ])("finds on Tidemark, %s, what it found on QEMU", (_, tier0) => {
    const sums = sumsOf(committedImage(), tier0);
    expect(Object.keys(sums)).toEqual([...PHASES]);
    expect(sums).toEqual(committedRecord().sums);
  });

  it("is what its sources make, where the cross compiler is installed", (context) => {
    const here = compiler();
    if (here === null) context.skip(missing("aarch64-linux-gnu-gcc"));
    else compareBuilds(here);
  });
});
