// Defects planted into sessions from outside, to prove that the simulation sees them.
import { NO_PAGES } from "../../../src/migration/dirty-pages.js";
import type { SourceSession } from "../../../src/migration/index.js";
import type { DirtyPages } from "../../../src/runtime/index.js";
import { atSwitchover, faults, type MigrationPlant, none } from "./plant.js";
import { POSTCOPY_PLANTS } from "./plants-postcopy.js";

/** Another harvest in place of the one that comes with the state. */
function lastHarvest(
  instead: (vm: SourceSession["vm"]) => Promise<DirtyPages>,
): (session: SourceSession) => void {
  return ({ vm }) => {
    const saveLast = vm.saveLast.bind(vm);
    vm.saveLast = async (lacksPages) => {
      await vm.hold();
      const dirty = instead(vm);
      await dirty;
      return { ...(await saveLast(lacksPages)), dirty };
    };
  };
}

export const MIGRATION_PLANTS: readonly MigrationPlant[] = [
  {
    name: "release-before-ready",
    breaks: "the source releases the VM without waiting for the target to be ready",
    faults: faults([
      ["request-lost", 0.4],
      ["source-crash", 0.002],
    ]),
    source: atSwitchover((switchover) => {
      const finish = switchover.finish.bind(switchover);
      switchover.finish = async (...args) => {
        finish(...args).catch(() => {});
      };
    }),
  },
  {
    name: "run-before-kept",
    breaks: "the target runs the VM before its journal says so",
    faults: faults([["crash-before-write", 0.08]]),
    target: ({ notes }) => {
      const keep = notes.keep.bind(notes);
      notes.keep = (point) => {
        const kept = keep(point);
        return point === "running" ? Promise.resolve() : kept;
      };
    },
  },
  {
    name: "commit-not-repeated",
    breaks: "a commit that nobody heard counts as heard",
    faults: faults([
      ["request-lost", 0.3],
      ["target-crash", 0.005],
    ]),
    peer: (peer) => ({ ...peer, commit: (session) => peer.commit(session).catch(() => {}) }),
  },
  {
    name: "last-harvest-dropped",
    breaks: "what was dirty when the vCPUs were held isn't sent",
    source: lastHarvest(async () => NO_PAGES),
  },
  {
    name: "tables-dropped",
    breaks: "what saving the state wrote into memory isn't sent",
    source: lastHarvest((vm) => vm.harvest()),
  },
  {
    name: "tables-late",
    breaks: "a VM that nobody watches is saved after its pages were sent",
    faults: faults([["vm-refuses", 0.1]]),
    source: ({ vm }) => void Object.defineProperty(vm, "isTracked", { get: () => true }),
  },
  {
    name: "round-forgotten",
    breaks: "a round's harvest is taken and not sent",
    source: ({ vm }) => {
      const harvest = vm.harvest.bind(vm);
      let n = 0;
      vm.harvest = async () => {
        const taken = await harvest();
        return ++n === 1 ? NO_PAGES : taken;
      };
    },
  },
  {
    name: "not-called-off",
    breaks: "the VM goes on at the source while nothing durable keeps the target's copy from it",
    faults: faults([
      ["reply-lost", 0.4],
      ["network-cut", 0.1],
      ["source-crash", 0.005],
    ]),
    source: ({ notes }) => {
      const reach = notes.reach.bind(notes);
      notes.reach = async (point) => {
        if (point !== "aborted") await reach(point);
      };
    },
  },
  {
    name: "released-left",
    breaks: "a restarted source says for ever that a VM is the target's, which never had it",
    faults: faults([["source-crash", 0.01]]),
    resumed: ({ notes }) => {
      notes.callOff = none;
    },
  },
  {
    name: "taken-back-in-memory",
    breaks: "a VM that its target has lost goes on while the journal still says that it is gone",
    faults: faults([
      ["target-crash", 0.01],
      ["journal-full", 0.1],
    ]),
    source: ({ notes }) => {
      notes.callOff = () => notes.reachAnyway("aborted");
    },
  },
  {
    name: "hold-left",
    breaks: "after a failure the VM stays held",
    faults: faults([
      ["request-lost", 0.2],
      ["cancel", 0.005],
    ]),
    source: ({ vm }) => {
      vm.letGo = none;
    },
  },
  {
    name: "tracking-left",
    breaks: "after a failure the log goes on being read",
    faults: faults([["cancel", 0.01]]),
    source: ({ vm }) => {
      vm.untrack = none;
    },
  },
  {
    name: "throttle-left",
    breaks: "after a failure the guest stays slowed down",
    faults: faults([["cancel", 0.005]]),
    source: ({ vm }) => {
      vm.unthrottle = none;
    },
  },
  {
    name: "undecided-is-released",
    breaks: "a target that asks takes undecided for its turn",
    voice: (voice) => ({
      verdict: async () => {
        const verdict = await voice.verdict();
        return verdict === "undecided" ? "released" : verdict;
      },
    }),
    faults: faults([["reply-lost", 0.4]]),
  },
  {
    name: "abort-ignored",
    breaks: "the target answers an abort and goes on",
    faults: faults([["cancel", 0.005]]),
    target: (session) => {
      session.abort = none;
    },
  },
  {
    name: "impatient-target",
    breaks: "a ready target gives up when it doesn't reach the source",
    faults: faults([["source-crash", 0.01]]),
    target: (session) => {
      const ask = session.ask.bind(session);
      session.ask = async (silentMs) => {
        await ask(silentMs);
        await session.abort("Nobody answers.").catch(() => {});
      };
    },
  },
  {
    name: "restart-forgets-ready",
    breaks: "a restarted source calls the target off without a look at what it has",
    faults: faults([["source-crash", 0.01]]),
    peer: (peer, isResumed) =>
      isResumed
        ? {
            ...peer,
            status: async (session) => ({ ...(await peer.status(session)), point: "none" }),
            abort: (session, why) => peer.abort(session, why),
          }
        : peer,
  },
  {
    name: "restart-forgets-aborted",
    breaks: "a restarted source hands over what it had called off before",
    faults: faults([
      ["reply-lost", 0.4],
      ["network-cut", 0.1],
      ["source-crash", 0.005],
    ]),
    kept: (kept) => (kept.point === "aborted" ? { ...kept, point: "none" } : kept),
  },
  ...POSTCOPY_PLANTS,
];
