// Owns: `tidemark snapshot`: taken with a word of how far it is, listed, restored, deleted.
// CLI process.
import { parseArgs } from "node:util";
import { systemClock } from "../base/clock.js";
import type { Operations } from "../generated/client.js";
import type { Client } from "./client.js";
import type { Terminal } from "./ending.js";
import { EXIT, Failure } from "./failure.js";
import { openHost } from "./host.js";
import { flag, HOST_OPTIONS, hostOf, SERVER_DEFAULT, text, usageOf } from "./options.js";
import { table } from "./table.js";

const SNAPSHOT_USAGE = `usage: tidemark snapshot VERB ... [options]

  create VM                 takes one and prints its id
      --name NAME           a name for people
      --differential        what changed since the newest of a chain
      --parent ID           since this one
      --track, --no-track   whether differentials can follow (if that can be)
  list [VM]                 those of a VM, or all
  restore ID                makes a new VM of it and prints its id
      --name NAME           of the VM
      --in-place VM         puts this VM back instead
      --paused              a board that ran waits to be resumed
  delete ID...              with their files

      --json                as JSON
      --server URL          the host of the VM (${SERVER_DEFAULT})
      --token-file FILE     holds the bearer token for it
`;

const OPTIONS = {
  name: text,
  parent: text,
  "in-place": text,
  differential: flag,
  track: flag,
  "no-track": flag,
  paused: flag,
  json: flag,
  ...HOST_OPTIONS,
} as const;

type Snapshot = Operations["getSnapshot"]["answer"];

const POLL_MS = 100;
const COLUMNS = ["ID", "KIND", "STATE", "MIB", "PAUSE MS", "VM", "NAME"] as const;
const MIB = 2 ** 20;

const usage = usageOf(SNAPSHOT_USAGE);

function read(args: readonly string[]) {
  try {
    return parseArgs({ args: [...args], options: OPTIONS, allowPositionals: true });
  } catch (error) {
    throw usage((error as Error).message);
  }
}

type Values = ReturnType<typeof read>["values"];

/** What a verb did: for people, and for programs. */
interface Said {
  readonly text: string;
  readonly json: unknown;
}

async function follow(client: Client, id: string, terminal: Terminal): Promise<Snapshot> {
  const stop = terminal.onInterrupt(() => void client.call("cancelSnapshot", { snapshot: id }));
  let told = -1;
  try {
    for (;;) {
      const snapshot = await client.call("getSnapshot", { snapshot: id });
      if (snapshot.state !== "creating") return snapshot;
      const { phase, pagesDone, pagesTotal } = snapshot.progress;
      const part = pagesTotal === 0 ? 0 : Math.min(1, pagesDone / pagesTotal);
      const percent = Math.floor(part * 10) * 10;
      if (percent > told) terminal.warn(`${percent} %, ${phase}`);
      told = Math.max(told, percent);
      await systemClock.sleep(POLL_MS);
    }
  } finally {
    stop();
  }
}

async function create(
  client: Client,
  [vm = ""]: readonly string[],
  values: Values,
  terminal: Terminal,
): Promise<Said> {
  const { name = null, parent = null } = values;
  const isDifferential = values.differential || parent !== null;
  const track = values.track ? { track: true } : values["no-track"] ? { track: false } : {};
  const body = isDifferential
    ? { name, kind: "differential" as const, parent }
    : { name, kind: "full" as const, ...track };
  const { id } = await client.call("createSnapshot", { vm }, body);
  const snapshot = await follow(client, id, terminal);
  if (snapshot.state === "complete") return { text: `${id}\n`, json: snapshot };
  const code = snapshot.state === "cancelled" ? EXIT.interrupted : EXIT.failed;
  throw new Failure(`The snapshot ${id} ${snapshot.state}: ${snapshot.stateReason ?? ""}`, code);
}

function row(snapshot: Snapshot): readonly string[] {
  const { id, kind, state, fileBytes, pauseMs, vmName, vmId, name } = snapshot;
  const mib = fileBytes === null ? "-" : (fileBytes / MIB).toFixed(1);
  const pause = pauseMs === null ? "-" : pauseMs.toFixed(1);
  return [id, kind, state, mib, pause, vmName ?? vmId, name ?? "-"];
}

async function list(client: Client, [vm]: readonly string[]): Promise<Said> {
  const found: Snapshot[] = [];
  let cursor: string | null = null;
  do {
    const query: Record<string, string> = vm === undefined ? {} : { vm };
    if (cursor !== null) query["cursor"] = cursor;
    const page: Operations["listSnapshots"]["answer"] = await client.call(
      "listSnapshots",
      {},
      undefined,
      query,
    );
    found.push(...page.items);
    cursor = page.nextCursor;
  } while (cursor !== null);
  return { text: table([COLUMNS, ...found.map(row)]), json: found };
}

async function restore(
  client: Client,
  [snapshot = ""]: readonly string[],
  values: Values,
): Promise<Said> {
  const { name = null, paused } = values;
  const vm = values["in-place"];
  const made =
    vm === undefined
      ? await client.call("restoreSnapshot", { snapshot }, { name, paused })
      : await client.call("restoreVm", { vm }, { snapshot, paused });
  return { text: `${made.id}\n`, json: made };
}

async function remove(client: Client, ids: readonly string[]): Promise<Said> {
  for (const snapshot of ids) await client.call("deleteSnapshot", { snapshot });
  return { text: ids.map((id) => `${id}\n`).join(""), json: ids };
}

/** Arguments of each verb: how many at least and at most, and what it does. */
const VERBS = {
  create: { min: 1, max: 1, act: create },
  list: { min: 0, max: 1, act: list },
  restore: { min: 1, max: 1, act: restore },
  delete: { min: 1, max: Number.POSITIVE_INFINITY, act: remove },
} as const;

/** @returns the exit code */
export async function snapshot(args: readonly string[], terminal: Terminal): Promise<number> {
  const { values, positionals } = read(args);
  if (values.help) {
    terminal.write(SNAPSHOT_USAGE);
    return EXIT.ok;
  }
  const [verb = "", ...rest] = positionals;
  const found = Object.entries(VERBS).find(([name]) => name === verb)?.[1];
  if (found === undefined) throw usage(`snapshot takes ${Object.keys(VERBS).join(", ")}.`);
  if (rest.length < found.min || rest.length > found.max) {
    throw usage(`snapshot ${verb} takes others.`);
  }
  const { client } = await openHost(hostOf(values, SERVER_DEFAULT, usage));
  const said = await found.act(client, rest, values, terminal);
  terminal.write(values.json ? `${JSON.stringify(said.json)}\n` : said.text);
  return EXIT.ok;
}
