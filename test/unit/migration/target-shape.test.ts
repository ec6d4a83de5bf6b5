// Goal: a target whose VM came out with other memory than its passport says refuses the offer, and
// keeps nothing of it. Method: a target's session over a real VM of this thread, and passports that
// say something else.
import { expect, it } from "vitest";
import { systemClock } from "../../../src/base/clock.js";
import {
  type CommitPoint,
  DEFAULT_PARAMETERS,
  type Failure,
  type MigrationState,
  type MovingVm,
  type Passport,
  STREAM_VERSIONS,
  TargetSession,
} from "../../../src/migration/index.js";
import { Inline } from "../../support/inline.js";

const never = (): never => {
  throw new Error("it is refused before");
};

/** A target that has built a VM for a passport whose blocks are changed. */
async function offered(change: (memory: Passport["memory"]) => Passport["memory"]) {
  const inline = new Inline();
  const object = { backing: "ram", hugePages: false } as const;
  inline.call("createMemoryObject", { ...object, size: 0x4_0000n, userspaceAddr: 1n << 32n });
  inline.call("createMemoryObject", { ...object, size: 0x1_0000n, userspaceAddr: 2n << 32n });
  const vm: MovingVm = {
    call: async (name, args) => ({ value: inline.call(name, args) }),
  };
  const told: { state: MigrationState; failure: Failure | null }[] = [];
  const points: CommitPoint[] = [];
  const discarded: string[] = [];
  const blocks = inline.call("describeMemory", {}).blocks.map(({ object, bytes, contentPage }) => {
    return { object, bytes, contentPage };
  });
  const passport: Passport = {
    version: 1,
    streams: STREAM_VERSIONS,
    source: { instance: "A", session: "m1", url: "" },
    vm: { uuid: "u", name: null, labels: {}, definition: null, shape: null, images: [] },
    memory: change(blocks),
  };
  const state = (now: MigrationState, failure: Failure | null) => {
    told.push({ state: now, failure });
  };
  const target = new TargetSession({
    session: "in-m1",
    ...{ passport, parameters: DEFAULT_PARAMETERS, streams: STREAM_VERSIONS, source: null },
    host: {
      build: async () => vm,
      eventfds: never,
      release: never,
      lose: never,
      discard: async (why) => void discarded.push(why),
    },
    dataPlane: { open: never, accept: never, close: async () => {} },
    journal: {
      state: async (now, failure) => state(now, failure),
      passed: state,
      point: async (point) => void points.push(point),
      peer: never,
      round: never,
      progress: () => {},
      decided: never,
      statistics: () => {},
    },
    clock: systemClock,
  });
  const refusal = target.offer().then(never, (error: unknown) => error);
  return { refusal: await refusal, told, points, discarded };
}

it.each([
  [
    "an object of another size",
    (memory: Passport["memory"]) => memory.map((one) => ({ ...one, bytes: one.bytes * 2 })),
  ],
  ["one object less", (memory: Passport["memory"]) => memory.slice(1)],
  [
    "another number",
    (memory: Passport["memory"]) => memory.map((one) => ({ ...one, object: one.object + 1 })),
  ],
])("%s is a shape-mismatch, and the VM goes", async (_what, change) => {
  const { refusal, told, points, discarded } = await offered(change);
  expect(refusal).toMatchObject({ code: "shape-mismatch", isTransient: false });
  expect(String(refusal)).toMatch(/Memory objects differ: bytes there .*, here \d+: \d+/);
  expect(points).toEqual(["aborted"]);
  expect(discarded).toEqual([(refusal as Error).message]);
  expect(told.at(-1)).toMatchObject({ state: "failed", failure: { code: "shape-mismatch" } });
});
