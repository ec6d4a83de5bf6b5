// Owns: QMP's commands of migrations, dirty rates and dirty limits. HTTP thread.
// @source QEMU 7.2 qapi/migration.json
import type { LiveParameters, MigrationState } from "../../migration/index.js";
import type { Command, Face } from "./command.js";
import { CANCEL_LIMIT_ARGS, LIMIT_ARGS, LIMIT_LIST } from "./dirty-limit.js";
import { DIRTY_RATE_ARGS, DIRTY_RATE_INFO } from "./dirty-rate.js";
import type { JsonObject } from "./json.js";
import { MIGRATION_INFO, MIGRATION_STATUS, migrationInfo, statusOf } from "./migration-info.js";
import { CAPABILITY_LIST, type Capability, PARAMETER_SET } from "./migration-settings.js";
import type { SessionView } from "./ports.js";
import { BOOL, NOTHING, object, QmpError, STR } from "./qapi.js";

const SCHEME = "tidemark:";
const ENDED: ReadonlySet<MigrationState> = new Set(["completed", "failed", "cancelled"]);

/** A peer is named, never an address: no client can make this host call one. */
function peerOf(uri: string): string {
  const peer = uri.startsWith(SCHEME) ? uri.slice(SCHEME.length) : "";
  if (peer !== "") return peer;
  const why = "and PEER is a name in the host's list of peers; no address can be given";
  throw new QmpError(`'uri' must be ${SCHEME}PEER, ${why}.`);
}

const BLOCKS = "Disks don't move with a VM here.";

async function underWay({ vm }: Face): Promise<SessionView | null> {
  const session = await vm.migrations.current();
  return session === null || ENDED.has(session.state) ? null : session;
}

async function migrate(face: Face, args: JsonObject): Promise<undefined> {
  const { vm, settings } = face;
  const peer = peerOf(String(args["uri"]));
  if (args["blk"] === true || args["inc"] === true) throw new QmpError(BLOCKS);
  if (args["resume"] === true) {
    await recover(face);
    return;
  }
  await vm.migrations.start(peer, settings.request());
}

async function recover({ vm }: Face): Promise<void> {
  const session = await vm.migrations.current();
  if (session?.state !== "postcopy-paused") {
    throw new QmpError("Only a migration that is paused in post-copy can be recovered.");
  }
  // A target waits for its source all the time.
  if (session.isOutgoing) await vm.migrations.recover();
}

async function set(face: Face, change: Partial<LiveParameters>): Promise<void> {
  const session = await underWay(face);
  if (session === null || !session.isOutgoing || Object.keys(change).length === 0) return;
  await face.vm.migrations.adjust(change);
}

const ACTIONS: Readonly<Record<string, Command>> = {
  migrate: {
    args: object({ uri: STR, "blk?": BOOL, "inc?": BOOL, "detach?": BOOL, "resume?": BOOL }),
    explains: {
      channels: `Peers are named: say 'uri': '${SCHEME}PEER' in place of 'channels'.`,
    },
    run: migrate,
  },
  "migrate-incoming": {
    args: object({ uri: STR }),
    explains: { channels: "Nothing has to listen: a source asks for its target by itself." },
    run: async () => {
      throw new QmpError(
        "Nothing has to listen for a VM: its source's host makes it here, and with it a socket " +
          "can be opened by POST /v1/vms/{vm}/qmp.",
      );
    },
  },
  migrate_cancel: {
    args: NOTHING,
    run: async (face) => {
      if ((await underWay(face)) !== null) await face.vm.migrations.cancel();
      return undefined;
    },
  },
  "migrate-pause": {
    args: NOTHING,
    run: async ({ vm }) => {
      const state = (await vm.migrations.current())?.state;
      const why =
        state === "postcopy-active"
          ? "The stream of pages isn't cut by hand here: it pauses when the network is."
          : "A migration pauses only in post-copy; this VM has none there.";
      throw new QmpError(why);
    },
  },
  "migrate-recover": {
    args: object({ uri: STR }),
    run: async (face, args) => {
      peerOf(String(args["uri"]));
      return void (await recover(face));
    },
  },
  "migrate-continue": {
    args: object({ state: MIGRATION_STATUS }),
    run: async ({ vm }, { state }) => {
      const session = await vm.migrations.current();
      const now = session === null ? "none" : statusOf(session.state);
      if (state !== "pre-switchover" || now !== state) {
        const why = `it is ${now}`;
        throw new QmpError(`A migration goes on only out of pre-switchover: ${why}.`);
      }
      return void (await vm.migrations.proceed());
    },
  },
  "migrate-start-postcopy": {
    args: NOTHING,
    run: async ({ vm, settings }) => {
      if (!settings.has("postcopy-ram")) {
        throw new QmpError("Set the capability postcopy-ram before the migration begins.");
      }
      return void (await vm.migrations.startPostcopy());
    },
  },
};

const SETTINGS: Readonly<Record<string, Command>> = {
  "migrate-set-capabilities": {
    args: object({ capabilities: CAPABILITY_LIST }),
    run: async (face, args) => {
      type Wanted = { readonly capability: Capability; readonly state: boolean };
      // A target is there only while its session is, and its client may want events.
      if ((await underWay(face))?.isOutgoing === true) {
        throw new QmpError("A migration is under way: its capabilities can't change any more.");
      }
      face.settings.setCapabilities(args["capabilities"] as unknown as readonly Wanted[]);
      return undefined;
    },
  },
  "query-migrate-capabilities": {
    args: NOTHING,
    returns: CAPABILITY_LIST,
    run: async ({ settings }) => settings.capabilities(),
  },
  "migrate-set-parameters": {
    args: PARAMETER_SET,
    run: async (face, args) => void (await set(face, face.settings.setParameters(args))),
  },
  "query-migrate-parameters": {
    args: NOTHING,
    returns: PARAMETER_SET,
    run: async (face) => face.settings.parameters((await underWay(face))?.parameters ?? null),
  },
  "query-migrate": {
    args: NOTHING,
    returns: MIGRATION_INFO,
    run: async ({ vm, clock }) =>
      migrationInfo(await vm.migrations.current(), vm.pageSize, clock.nowMs()),
  },
};

const DIRTY: Readonly<Record<string, Command>> = {
  "calc-dirty-rate": {
    args: DIRTY_RATE_ARGS,
    explains: { "sample-pages": "Pages are counted here, not sampled: leave it out." },
    run: async ({ dirtyRate }, args) => void (await dirtyRate.begin(args)),
  },
  "query-dirty-rate": {
    args: NOTHING,
    returns: DIRTY_RATE_INFO,
    run: async ({ dirtyRate }) => dirtyRate.query(),
  },
  "set-vcpu-dirty-limit": {
    args: LIMIT_ARGS,
    run: async ({ dirtyLimit }, args) => void (await dirtyLimit.set(args)),
  },
  "cancel-vcpu-dirty-limit": {
    args: CANCEL_LIMIT_ARGS,
    run: async ({ dirtyLimit }, args) => void (await dirtyLimit.cancel(args)),
  },
  "query-vcpu-dirty-limit": {
    args: NOTHING,
    returns: LIMIT_LIST,
    run: async ({ dirtyLimit }) => dirtyLimit.query(),
  },
};

export const MIGRATION_COMMANDS: Readonly<Record<string, Command>> = {
  ...ACTIONS,
  ...SETTINGS,
  ...DIRTY,
};
