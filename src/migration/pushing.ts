// Owns: post-copy at the source: pages that follow a VM which runs at the target already, cuts and
// all. HTTP thread, or inline.
//
//   begin ─▶ active ─ everything is there ─▶ done
//             │  ▲ the first page after :recover
//        cut  ▼  │
//            paused ─ :recover ─▶ recover          the target says that it is over: done, or lost
import type { Clock } from "../base/clock.js";
import type { DirtyPages, MemoryMap } from "../runtime/index.js";
import { Once } from "./control.js";
import { failureOf, MigrationError } from "./failure.js";
import { RETRY_LAST_MS } from "./limits.js";
import type { Notes } from "./notes.js";
import type { Outgoing, Peer, PeerStatus, Pushing, PushTraffic } from "./ports.js";
import { pause, retry } from "./retry.js";
import type { Rounds } from "./rounds.js";
import { ENDED } from "./types.js";

export interface PushParts {
  readonly outgoing: Outgoing & Pushing;
  readonly peer: Peer;
  /** The peer's name for the session. */
  readonly session: string;
  readonly notes: Notes;
  readonly clock: Clock;
  readonly rounds: Rounds;
}

/** How long the source waits for the target to end its session, once every page is there. */
const ENDS_WITHIN_MS = 5_000;
/** It looks itself as often. */
const ENDS_FIRST_MS = 10;
const NOT_ENDED = "not-ended";

/** How a push under way ended. */
type PushEnd = { readonly error: unknown } | "all-there";

export class Push {
  readonly #parts: PushParts;
  #end: Promise<PushEnd> | null = null;
  #recover = new Once<true>();
  /** An operator's word that nobody needs to wait for the target. */
  readonly #givenUp = new Once<string>();

  constructor(parts: PushParts) {
    this.#parts = parts;
  }

  get isBegun(): boolean {
    return this.#end !== null;
  }

  /** @param pages null: what is left after a cut */
  begin(pages: DirtyPages | null): void {
    const { outgoing, notes, rounds } = this.#parts;
    const told = (sent: PushTraffic): void => {
      if (notes.state === "postcopy-recover") notes.pass("postcopy-active", null);
      rounds.pushed(sent);
    };
    rounds.beginPush(pages);
    this.#end = outgoing.push(pages, told).then(
      (sent) => {
        rounds.pushed(sent);
        rounds.endPush(null);
        return "all-there" as const;
      },
      (error: unknown) => {
        rounds.endPush(error);
        return { error };
      },
    );
  }

  /** Rejects if the push fails, and else never ends: before the VM runs at the target. */
  async failure(): Promise<never> {
    const end = await this.#end;
    if (end !== null && end !== "all-there") throw end.error;
    return new Promise(() => {});
  }

  /** @returns why there is nothing to recover, or null */
  recover(): string | null {
    if (this.#parts.notes.state !== "postcopy-paused") return "The post-copy isn't paused.";
    this.#recover.set(true);
    return null;
  }

  giveUp(reason: string): void {
    this.#givenUp.set(reason);
  }

  /**
   * The VM runs at the target: until that has all of its pages.
   * @throws MigrationError the VM has ended there
   */
  async untilAllThere(): Promise<void> {
    for (;;) {
      const end = await this.#ended();
      if (end === "all-there") return this.#untilToldOfTheEnd();
      if (await this.#isOver(end.error)) return;
      await this.#paused(end.error);
    }
  }

  /**
   * The target's session ends a moment after its last page: who reads "completed" here finds the
   * VM free there. A target that can't be asked any more has all of it all the same.
   */
  async #untilToldOfTheEnd(): Promise<void> {
    const ask = async (): Promise<void> => {
      if (!(await this.#isOver(null)))
        throw new MigrationError("target", NOT_ENDED, "The target hasn't ended yet.");
    };
    const isWorth = (error: unknown) => error instanceof MigrationError && error.code === NOT_ENDED;
    try {
      const patience = { forMs: ENDS_WITHIN_MS, firstMs: ENDS_FIRST_MS, isWorth };
      await retry(this.#parts.clock, patience, ask);
    } catch (error) {
      if (!isWorth(error)) throw error;
    }
  }

  async #ended(): Promise<PushEnd> {
    const given = this.#givenUp.happened.then((reason): PushEnd => ({ error: reason }));
    return (await Promise.race([this.#end, given])) ?? "all-there";
  }

  /** @returns true: the target has all of it. @throws MigrationError its VM has ended */
  async #isOver(why: unknown): Promise<boolean> {
    const word = this.#givenUp.value;
    if (word !== null) throw new MigrationError("operator", "resolved", word);
    const { peer, session } = this.#parts;
    let status: PeerStatus;
    try {
      status = await peer.status(session);
    } catch {
      return false;
    }
    if (status.state === "completed") return true;
    if (!ENDED.has(status.state)) return false;
    const detail = status.failure?.detail ?? `The target's session is ${status.state}.`;
    throw new MigrationError("target", "lost-in-postcopy", detail, { cause: why });
  }

  /** Its vCPUs wait for what they lack until somebody says :recover. */
  async #paused(error: unknown): Promise<void> {
    const { notes, clock } = this.#parts;
    this.#recover = new Once();
    notes.pass("postcopy-paused", failureOf(error, notes.state, "source"));
    const asked = Promise.race([this.#recover.happened, this.#givenUp.happened]);
    while (this.#recover.value === null) {
      await Promise.race([asked, pause(clock, RETRY_LAST_MS)]);
      if (this.#recover.value === null && (await this.#isOver(error))) return;
    }
    await notes.enter("postcopy-recover").catch(() => {});
    this.begin(null);
  }
}

/** Every page of every block. */
export function allPages({ blocks, pageSize }: MemoryMap): DirtyPages {
  const all = blocks
    .filter(({ backing }) => backing !== "device")
    .map(({ object, bytes }) => {
      const pages = bytes / pageSize;
      const bitmap = new Uint8Array(Math.ceil(pages / 64) * 8).fill(0xff, 0, pages >> 3);
      if (pages % 8 > 0) bitmap[pages >> 3] = (1 << (pages & 7)) - 1;
      return { object, pages, bitmap };
    });
  return { blocks: all, pages: all.reduce((sum, { pages }) => sum + pages, 0) };
}

/**
 * What has to be there before the VM runs, and what may follow. Beside memory without bytes, RAM
 * can't: sequences come by commands, which a thread that stands still for RAM doesn't take.
 */
export function split(
  { blocks }: MemoryMap,
  pages: DirtyPages,
): { readonly first: DirtyPages; readonly later: DirtyPages } {
  const isMixed = blocks.some(({ backing }) => backing === "unbacked");
  const isFirst = (object: number): boolean =>
    isMixed && blocks.some((block) => block.object === object && block.backing === "ram");
  const of = (isWanted: boolean): DirtyPages => {
    const some = pages.blocks.filter(({ object }) => isFirst(object) === isWanted);
    return { blocks: some, pages: some.reduce((sum, block) => sum + block.pages, 0) };
  };
  return { first: of(true), later: of(false) };
}
