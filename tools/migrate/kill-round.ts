// Owns: one migration between two real hosts, cut by SIGKILL at a random moment, and what must be
// true after it. Tool and test process.
import { systemClock } from "../../dist/base/clock.js";
import type { Prng } from "../../dist/base/prng.js";
import { NAMES, type Name, other, type TwoHosts } from "../../test/support/two-hosts.js";
import { boardGuest, type MovingGuest, syntheticGuest } from "./guests.js";
import { type Asked, type Migration, migrate, vmOf } from "./move.js";
import { hasEnded, judge, type Outcome, sessionsOf, told } from "./truth.js";

export interface Round {
  readonly n: number;
  readonly guest: MovingGuest["kind"];
  readonly strategy: Strategy;
  readonly killed: "source" | "target" | "both";
  /** The last that the source's session was seen to say before. */
  readonly phase: string;
  readonly outcome: Outcome;
}

/** The kill comes a while after this is seen; null: after its beginning. */
const WHOLE = [null, "setup", "active", "active", "device", "completed"] as const;
const IN_TWO_PLACES = ["postcopy-active", "postcopy-active", "postcopy-active"] as const;
const MOMENTS = {
  "pre-copy": WHOLE,
  "stop-and-copy": WHOLE,
  "post-copy": [null, "setup", "device", ...IN_TWO_PLACES, "completed"],
  hybrid: [null, "active", "device", ...IN_TWO_PLACES, "completed"],
} as const;
type Strategy = keyof typeof MOMENTS;
const STRATEGIES: readonly Strategy[] = [
  ...(["pre-copy", "pre-copy", "stop-and-copy"] as const),
  ...(["post-copy", "post-copy", "hybrid"] as const),
];
/** A session goes through them in this order, and through some too fast to be seen. */
const ORDER = ["queued", "setup", "active", "device", "postcopy-active", "completed"];
const BOARD_EVERY = 4;
const AFTER_MS_MAX = 60;
/** Pages that follow at the lowest bandwidth take two seconds. */
const AFTER_POSTCOPY_MS_MAX = 1_500;
/** Of a kill that waits for nothing. */
const BLIND_MS_MAX = 600;
const SEE_MS = 2;
const SEEN_WITHIN_MS = 20_000;
const SETTLED_WITHIN_MS = 90_000;
const POLL_MS = 50;
const NEXT_MS = 90_000;
const MIB = 2 ** 20;

/** Slow enough to be met in its rounds, or as fast as it can. */
function parametersOf(prng: Prng, strategy: Strategy): NonNullable<Asked["parameters"]> {
  const isWhole = strategy === "pre-copy" || strategy === "stop-and-copy";
  const bandwidth = prng.pick(isWhole ? [0, 0, 8 * MIB, 32 * MIB] : [0, 4 * MIB, 4 * MIB, 8 * MIB]);
  return {
    bandwidthBytesPerSecond: bandwidth,
    postcopyBandwidthBytesPerSecond: bandwidth,
    channels: prng.pick([1, 2]),
    // All of it can't be compared before it runs where pages follow.
    verify: prng.below(2) === 0 && isWhole,
    downtimeMs: 300,
  };
}

class Watched {
  phase = "none";
  seen = "none";
  readonly #hosts: TwoHosts;
  readonly #from: Name;
  readonly #asked: Asked;
  #id: string | null = null;

  constructor(hosts: TwoHosts, from: Name, asked: Asked) {
    this.#hosts = hosts;
    this.#from = from;
    this.#asked = asked;
  }

  /** Asks, and doesn't mind that the host dies meanwhile. */
  begin(): void {
    this.#hosts
      .client(this.#from)
      .call("createMigration", {}, this.#asked)
      .then(
        (made) => {
          this.#id = (made as Migration).id;
        },
        () => {},
      );
  }

  async look(): Promise<string> {
    if (this.#id === null) return this.phase;
    const client = this.#hosts.client(this.#from);
    const { state, point } = await client.call("getMigration", { migration: this.#id });
    this.seen = state;
    this.phase = point === "none" || state === "completed" ? state : `${state}, ${point}`;
    return state;
  }

  /** Until the session is in a state, or past it. */
  async until(state: string): Promise<void> {
    const deadline = systemClock.monotonicMs() + SEEN_WITHIN_MS;
    for (;;) {
      const now = await this.look();
      const isPast = ORDER.indexOf(now) >= ORDER.indexOf(state);
      if (isPast || now === "failed" || systemClock.monotonicMs() > deadline) return;
      await systemClock.sleep(SEE_MS);
    }
  }
}

export class KillRounds {
  readonly #hosts: TwoHosts;
  readonly #prng: Prng;
  readonly #strategies: readonly Strategy[];

  /** @param only this strategy; absent: each */
  constructor(hosts: TwoHosts, prng: Prng, only?: string) {
    this.#hosts = hosts;
    this.#prng = prng;
    const some = STRATEGIES.filter((strategy) => strategy === (only ?? strategy));
    if (some.length === 0) throw new Error(`no strategy is called ${only}`);
    this.#strategies = some;
  }

  async round(n: number): Promise<Round> {
    const prng = this.#prng;
    const from = prng.pick(NAMES);
    const killed = prng.pick(["source", "source", "target", "target", "both"] as const);
    const guest = n % BOARD_EVERY === 0 ? boardGuest() : syntheticGuest(prng.u32());
    const client = this.#hosts.client(from);
    const vm = await guest.create(client);
    const { uuid } = await client.call("getVm", { vm });
    const strategy = prng.pick(this.#strategies);
    const { phase, seen } = await this.#cut(from, vm, killed, strategy);
    await this.#settled(uuid, from);
    const told1 = await told(this.#hosts, uuid, { from, killed: namesOf(from, killed), seen });
    const judged = judge(told1);
    const lies = [...judged.lies, ...(await this.#after(guest, uuid, judged.runsOn))];
    const word = lies.length === 0 ? judged.word : "untrue";
    if (lies.length === 0) await this.#forget(uuid);
    return { n, guest: guest.kind, strategy, killed, phase, outcome: { ...judged, word, lies } };
  }

  /** @returns what was seen last */
  async #cut(
    from: Name,
    vm: string,
    killed: Round["killed"],
    strategy: Strategy,
  ): Promise<Pick<Watched, "phase" | "seen">> {
    const prng = this.#prng;
    const parameters = parametersOf(prng, strategy);
    const asked = { vmId: vm, peer: other(from), strategy, parameters };
    const moment = prng.pick(MOMENTS[strategy]);
    const after = prng.below(afterMsMax(moment));
    const watched = new Watched(this.#hosts, from, asked);
    watched.begin();
    if (moment !== null) await watched.until(moment);
    await systemClock.sleep(after);
    await watched.look();
    const names = namesOf(from, killed);
    await Promise.all(names.map((name) => this.#hosts.crash(name)));
    // Who is back first differs.
    const order = prng.below(2) === 0 ? names : [...names].reverse();
    for (const name of order) await this.#hosts.start(name);
    return watched;
  }

  /** Waits until no session of the VM is under way at either host. */
  async #settled(uuid: string, from: Name): Promise<void> {
    const deadline = systemClock.monotonicMs() + SETTLED_WITHIN_MS;
    for (;;) {
      const outgoing = await sessionsOf(this.#hosts.client(from), uuid, "outgoing");
      const incoming = await sessionsOf(this.#hosts.client(other(from)), uuid, "incoming");
      if ([...outgoing, ...incoming].every(hasEnded)) return;
      // What is still under way is told as a lie.
      if (systemClock.monotonicMs() > deadline) return;
      await systemClock.sleep(POLL_MS);
    }
  }

  /** What is wrong with the copy that runs, with the next life of a lost one, and the next move. */
  async #after(guest: MovingGuest, uuid: string, runsOn: Name | null): Promise<readonly string[]> {
    try {
      if (runsOn === null) return await this.#moveAnew(uuid);
      const before = await this.#checked(guest, uuid, runsOn);
      if (before.length > 0) return before;
      return (await this.#move(uuid, runsOn)) ?? this.#checked(guest, uuid, other(runsOn));
    } catch (error) {
      return [`afterwards: ${(error as Error).message}`];
    }
  }

  async #checked(guest: MovingGuest, uuid: string, at: Name): Promise<readonly string[]> {
    const client = this.#hosts.client(at);
    const wrong = await guest.check(client, await vmOf(client, uuid));
    return wrong.map((what) => `at ${at}: ${what}`);
  }

  /** @returns null: it went well */
  async #move(uuid: string, from: Name): Promise<readonly string[] | null> {
    const client = this.#hosts.client(from);
    const asked = { vmId: await vmOf(client, uuid), peer: other(from) };
    const { state, failure } = await migrate(client, asked, NEXT_MS);
    if (state === "completed") return null;
    return [`the next move is ${state}: ${failure?.detail ?? "no reason"}`];
  }

  /** A lost VM is built anew where it was lost, and moves. */
  async #moveAnew(uuid: string): Promise<readonly string[]> {
    for (const name of NAMES) {
      const client = this.#hosts.client(name);
      const { items } = await client.call("listVms", {}, undefined, { limit: "1000" });
      const lost = items.find((vm) => vm.uuid === uuid && vm.state === "lost");
      if (lost === undefined) continue;
      await client.call("startVm", { vm: lost.id });
      return (await this.#move(uuid, name)) ?? [];
    }
    return ["nobody has it"];
  }

  async #forget(uuid: string): Promise<void> {
    for (const name of NAMES) {
      const client = this.#hosts.client(name);
      const { items } = await client.call("listVms", {}, undefined, { limit: "1000" });
      for (const { id, uuid: found } of items) {
        if (found === uuid) await client.call("deleteVm", { vm: id });
      }
    }
  }
}

function afterMsMax(moment: string | null): number {
  if (moment === null) return BLIND_MS_MAX;
  return moment === "postcopy-active" ? AFTER_POSTCOPY_MS_MAX : AFTER_MS_MAX;
}

function namesOf(from: Name, killed: Round["killed"]): readonly Name[] {
  if (killed === "both") return [from, other(from)];
  return [killed === "source" ? from : other(from)];
}
