// Goal: never more jobs than allowed, in the order asked, whatever fails.
// Method: jobs that end when told.
import { expect, test } from "vitest";
import { Gate } from "../../../src/base/gate.js";

test("runs at most max at a time, in order, and goes on after a failure", async () => {
  const gate = new Gate(2);
  const started: number[] = [];
  const ends: ((fail: boolean) => void)[] = [];
  const jobs = [0, 1, 2, 3].map((n) =>
    gate.run(() => {
      started.push(n);
      return new Promise<number>((resolve, reject) => {
        ends[n] = (fail) => (fail ? reject(new Error(`job ${n}`)) : resolve(n));
      });
    }),
  );
  const results = Promise.allSettled(jobs);
  expect(started).toEqual([0, 1]);
  ends[0]!(true);
  await expect(jobs[0]).rejects.toThrow("job 0");
  expect(started).toEqual([0, 1, 2]);
  ends[2]!(false);
  await jobs[2];
  // A newcomer while somebody waits does not overtake.
  const late = gate.run(async () => started.push(9));
  ends[1]!(false);
  await jobs[1];
  ends[3]!(false);
  await Promise.all([results, late]);
  expect(started).toEqual([0, 1, 2, 3, 9]);
});
