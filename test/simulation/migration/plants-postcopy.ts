// Defects planted into post-copy: most of them into the real page stream, which a large toy's pages
// go over.
import { Push } from "../../../src/migration/pushing.js";
import { OutgoingStream } from "../../../src/migration/wire/outgoing-stream.js";
import { PageApplier } from "../../../src/migration/wire/page-applier.js";
import { PushQueue, type Turn } from "../../../src/migration/wire/push-queue.js";
import { atSwitchover, faults, type MigrationPlant, none } from "./plant.js";

/** Puts another function in the place of a method. @returns how to take it out */
function instead<T extends object, K extends keyof T>(
  prototype: T,
  name: K,
  make: (real: T[K]) => T[K],
): () => () => void {
  return () => {
    const real = prototype[name];
    prototype[name] = make(real);
    return () => {
      prototype[name] = real;
    };
  };
}

const NO_FAULTS = faults([]);

const EASY = { timeoutMs: 0, verify: false, pauseBeforeSwitchover: false } as const;
const POSTCOPY = { ...EASY, strategy: "post-copy" } as const;
/** A turn takes so long that a page stream may break off in the middle of it. */
const SLOW_POSTCOPY = { ...POSTCOPY, bandwidthBytesPerSecond: 20_000 } as const;
/** Some rounds, and then it goes with pages that were dirtied since. */
const HYBRID = {
  ...EASY,
  strategy: "hybrid",
  bandwidthBytesPerSecond: 400_000,
  downtimeMs: 11,
  timeoutMs: 200,
  onTimeout: "postcopy",
} as const;

/** Without the last page of each turn. */
function shortened(turn: Turn): Turn {
  const last = turn.runs.at(-1);
  if (last === undefined) return turn;
  const rest = last.count > 1 ? [{ first: last.first, count: last.count - 1 }] : [];
  return { ...turn, runs: [...turn.runs.slice(0, -1), ...rest] };
}

export const POSTCOPY_PLANTS: readonly MigrationPlant[] = [
  {
    name: "demanded-page-forgotten",
    breaks: "a page that a vCPU waits for is taken from what is left, and not sent",
    kind: "stream",
    faults: NO_FAULTS,
    parameters: POSTCOPY,
    everywhere: instead(PushQueue.prototype, "nextAsked", (real) => {
      return function (this: PushQueue) {
        const turn = real.call(this);
        return turn === null ? null : real.call(this);
      };
    }),
  },
  {
    name: "push-skips-a-page",
    breaks: "the background push leaves out a page of each turn",
    kind: "stream",
    faults: NO_FAULTS,
    parameters: POSTCOPY,
    everywhere: instead(PushQueue.prototype, "next", (real) => {
      return function (this: PushQueue) {
        const turn = real.call(this);
        return turn === null ? null : shortened(turn);
      };
    }),
  },
  {
    name: "newer-page-overwritten",
    breaks: "a page that comes again is stored over what the target's guest has written since",
    kind: "stream",
    faults: faults([["stream-dead", 0.2]]),
    parameters: SLOW_POSTCOPY,
    everywhere: instead(PageApplier.prototype, "apply", (real) => {
      return function (this: PageApplier, frame) {
        return real.call(this, { ...frame, flags: 0 });
      };
    }),
  },
  {
    name: "stale-pages-kept",
    breaks: "pages that were dirtied after they had gone count as present at the target",
    kind: "stream",
    faults: NO_FAULTS,
    parameters: HYBRID,
    everywhere: instead(OutgoingStream.prototype, "discard", () => none),
  },
  {
    name: "cut-forgets-pages",
    breaks: "pages of a turn that broke off don't go again after :recover",
    kind: "stream",
    faults: faults([["stream-dead", 0.2]]),
    parameters: SLOW_POSTCOPY,
    everywhere: instead(PushQueue.prototype, "giveBack", () => () => {}),
  },
  {
    name: "postcopy-ends-early",
    breaks: "the source lets go of its copy before the last page has been confirmed",
    parameters: POSTCOPY,
    faults: NO_FAULTS,
    everywhere: instead(Push.prototype, "untilAllThere", () => none),
  },
  {
    name: "postcopy-released-early",
    breaks: "the source says released before the target has the state, and doesn't look again",
    parameters: POSTCOPY,
    faults: faults([["request-lost", 0.3]]),
    source: atSwitchover((switchover) => {
      switchover.finish = none;
    }),
  },
  {
    name: "death-unnoticed",
    breaks: "a target whose source has died with pages of it waits for them",
    parameters: POSTCOPY,
    faults: faults([["source-crash", 0.02]]),
    voice: (voice) => ({
      verdict: async () => {
        const verdict = await voice.verdict();
        return verdict === "lost" ? "released" : verdict;
      },
    }),
  },
];
