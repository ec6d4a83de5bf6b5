// Owns: `npm run crash:migrate`: migrations between two processes, cut by SIGKILL of either side at
// random moments; a table of who died when and what became of the VM.
//   --rounds 200   how many
//   --strategy NAME   this one alone; each if absent
//   --seed N       of every choice; printed. Moments are the machine's as well
// Exit status 1 when either host says anything untrue, a page is lost, or a next move fails.
import { parseArgs } from "node:util";
import { Prng } from "../dist/base/prng.js";
import { TwoHosts } from "../test/support/two-hosts.js";
import { KillRounds, type Round } from "./migrate/kill-round.js";

const { values: options } = parseArgs({
  options: {
    rounds: { type: "string", default: "200" },
    seed: { type: "string" },
    strategy: { type: "string" },
  },
});

const ROUNDS = Number(options.rounds);
const SEED = options.seed === undefined ? BigInt(Date.now()) : BigInt(options.seed);

function print(rounds: readonly Round[]): void {
  const rows = new Map<string, number>();
  for (const { strategy, killed, phase, outcome } of rounds) {
    const row = `${strategy.padEnd(15)}${killed.padEnd(8)}${phase.padEnd(27)}${outcome.word}`;
    rows.set(row, (rows.get(row) ?? 0) + 1);
  }
  const head = `${"strategy".padEnd(15)}${"killed".padEnd(8)}${"last seen".padEnd(27)}`;
  console.log(`\n${head}${"outcome".padEnd(22)}rounds`);
  for (const [row, count] of [...rows].sort(([a], [b]) => (a < b ? -1 : 1))) {
    console.log(`${row.padEnd(72)}${count}`);
  }
}

async function main(): Promise<void> {
  console.log(`seed ${SEED}`);
  const hosts = await TwoHosts.start("crash");
  const rounds: Round[] = [];
  try {
    const killing = new KillRounds(hosts, new Prng(SEED), options.strategy);
    for (let n = 1; n <= ROUNDS; n++) {
      const round = await killing.round(n);
      rounds.push(round);
      const { guest, strategy, killed, phase, outcome } = round;
      const lies = outcome.lies.length === 0 ? "" : `: ${outcome.lies.join("; ")}`;
      console.log(
        `${n}  ${guest}, ${strategy}, ${killed} killed in ${phase}: ${outcome.word}${lies}`,
      );
    }
  } finally {
    await hosts.stop();
  }
  print(rounds);
  const lies = rounds.reduce((sum, { outcome }) => sum + outcome.lies.length, 0);
  const boards = rounds.filter(({ guest }) => guest === "board").length;
  console.log(`${rounds.length} rounds, ${boards} of them boards; lies: ${lies}`);
  if (lies > 0) process.exitCode = 1;
}

await main();
