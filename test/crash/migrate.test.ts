// Goal: kill -9 of either host, or of both, at any moment of a migration leaves a VM that runs on
// exactly one side, whole, or is lost only where its only copy died; both say so, and it moves on.
// Method: two real processes, killed at random moments; `npm run crash:migrate` does it 200 times.
// MIGRATE_ROUNDS and MIGRATE_SEED lengthen and repeat it.
import { afterAll, beforeAll, expect, it } from "vitest";
import { systemClock } from "../../src/base/clock.js";
import { Prng } from "../../src/base/prng.js";
import { KillRounds } from "../../tools/migrate/kill-round.js";
import { TwoHosts } from "../support/two-hosts.js";

const ROUNDS = Number(process.env["MIGRATE_ROUNDS"] ?? 4);
const SEED = BigInt(process.env["MIGRATE_SEED"] ?? systemClock.nowMs());
const ROUND_MS = 120_000;

let hosts: TwoHosts;

beforeAll(async () => {
  hosts = await TwoHosts.start("crash");
}, ROUND_MS);
afterAll(() => hosts.stop());

it(
  `no host says anything untrue (MIGRATE_SEED=${SEED})`,
  async () => {
    const killing = new KillRounds(hosts, new Prng(SEED));
    for (let n = 1; n <= ROUNDS; n++) {
      const { guest, strategy, killed, phase, outcome } = await killing.round(n);
      expect(outcome.lies, `${guest}, ${strategy}, ${killed} killed in ${phase}`).toEqual([]);
    }
  },
  ROUNDS * ROUND_MS,
);
