// Owns: `tidemark migrate` and `tidemark migrations`: a VM to another host, with its progress.
// CLI process.
import { parseArgs } from "node:util";
import type { MigrationPreflight, Operations } from "../generated/client.js";
import type { Client } from "./client.js";
import type { Terminal } from "./ending.js";
import { EXIT, Failure } from "./failure.js";
import { type HostOptions, openHost } from "./host.js";
import { flag, HOST_OPTIONS, hostOf, SERVER_DEFAULT, text, usageOf } from "./options.js";
import { table } from "./table.js";

const USAGE = `usage: tidemark migrate VM --to PEER [options]
       tidemark migrations [options]

  VM is an id, a name or a uuid; PEER one of the host's list, or local. migrate waits for the end,
  and Ctrl-C cancels. Status: 0 when the VM runs there, 130 when it was cancelled, 125 when it
  failed: then it runs where it was.

      --to PEER             the host that the VM moves to
      --strategy NAME       stop-and-copy, pre-copy, post-copy or hybrid (pre-copy)
      --tracking METHOD     auto, bitmap, manual-protect, ring, hdbss, hdbss+hacdbs or async-run
      --channels N          connections that carry pages (1)
      --compress HOW        none, deflate or delta (none)
      --bandwidth MIB       MiB a second at most (0: no limit)
      --downtime MS         longest pause that may be planned (300)
      --timeout SECONDS     longest time before the switchover (0: none)
      --on-timeout WHAT     cancel, force or postcopy (cancel)
      --auto-converge       slows vCPUs down when rounds don't get smaller
      --verify              compares digests of all memory
      --dry-run             says what stands in the way, and moves nothing
      --detach              prints the migration's id and doesn't wait
      --json                the migration as JSON at its end

      --server URL          the host of the VM (${SERVER_DEFAULT})
      --token-file FILE     holds the bearer token for it
`;

const OPTIONS = {
  to: text,
  strategy: text,
  tracking: text,
  channels: text,
  compress: text,
  bandwidth: text,
  downtime: text,
  timeout: text,
  "on-timeout": text,
  "auto-converge": flag,
  verify: flag,
  "dry-run": flag,
  detach: flag,
  json: flag,
  ...HOST_OPTIONS,
} as const;

type Body = Operations["createMigration"]["body"];
type Migration = Operations["getMigration"]["answer"];

const MIB = 2 ** 20;
const MS_PER_S = 1000;
/** How long one request waits for the end; the bar moves in between. */
const LOOK_S = "1";
const BAR_CELLS = 30;
const ERASE_LINE = "\r\x1b[K";
const ENDED: ReadonlySet<string> = new Set(["completed", "failed", "cancelled"]);

const usage = usageOf(USAGE);

function read(args: readonly string[]) {
  try {
    return parseArgs({ args: [...args], options: OPTIONS, allowPositionals: true });
  } catch (error) {
    throw usage((error as Error).message);
  }
}

type Values = ReturnType<typeof read>["values"];

/** A number of the command line in the API's unit; absent where it wasn't given. */
function figure<K extends string>(
  name: K,
  option: string,
  given: string | undefined,
  unit = 1,
): { [key in K]?: number } {
  if (given === undefined) return {};
  if (!/^[0-9]{1,9}(\.[0-9]{1,3})?$/.test(given)) {
    throw usage(`--${option} takes a number, not ${given}.`);
  }
  return { [name]: Math.round(Number(given) * unit) } as { [key in K]?: number };
}

function bodyOf(vmId: string, values: Values): Body {
  const { to, strategy, tracking, compress } = values;
  if (to === undefined) throw usage("migrate takes --to PEER.");
  const onTimeout = values["on-timeout"];
  const parameters = {
    ...(tracking === undefined ? {} : { tracking }),
    ...(compress === undefined ? {} : { compression: compress }),
    ...(onTimeout === undefined ? {} : { onTimeout }),
    ...(values["auto-converge"] ? { autoConverge: true } : {}),
    ...(values.verify ? { verify: true } : {}),
    ...figure("channels", "channels", values.channels),
    ...figure("bandwidthBytesPerSecond", "bandwidth", values.bandwidth, MIB),
    ...figure("downtimeMs", "downtime", values.downtime),
    ...figure("timeoutMs", "timeout", values.timeout, MS_PER_S),
  };
  const validateOnly = values["dry-run"] ? { validateOnly: true } : {};
  const how = strategy === undefined ? {} : { strategy };
  // What is no word of the API it says itself.
  return { vmId, peer: to, parameters, ...how, ...validateOnly } as Body;
}

/** The id of a VM that is named by id, name or uuid. */
async function vmOf(client: Client, given: string): Promise<string> {
  const found = new Set<string>();
  let cursor: string | null = null;
  do {
    const query: Readonly<Record<string, string>> = cursor === null ? {} : { cursor };
    const page: Operations["listVms"]["answer"] = await client.call(
      "listVms",
      {},
      undefined,
      query,
    );
    for (const { id, name, uuid, state } of page.items) {
      if (id === given) return id;
      const isMeant = name === given || uuid === given.toLowerCase();
      if (isMeant && state !== "migrated") found.add(id);
    }
    cursor = page.nextCursor;
  } while (cursor !== null);
  const [id] = found;
  if (id !== undefined && found.size === 1) return id;
  const many = [...found].join(", ");
  throw new Failure(
    found.size === 0 ? `There is no VM ${given}.` : `${given} is the name of several VMs: ${many}.`,
  );
}

const mib = (bytes: number): string => `${(bytes / MIB).toFixed(1)} MiB`;

/** How far it is, in one line. */
export function progressLine({ state, progress, peer }: Migration): string {
  if (progress === null) return `${state}, to ${peer}`;
  const { bytesTotal, bytesRemaining, round, bytesPerSecond, throttlePercent } = progress;
  const share = bytesTotal === 0 ? 0 : 1 - Math.min(1, bytesRemaining / bytesTotal);
  const cells = "#".repeat(Math.floor(share * BAR_CELLS)).padEnd(BAR_CELLS, ".");
  const slowed = throttlePercent === 0 ? "" : `, vCPUs slowed by ${throttlePercent} %`;
  const rate = `${mib(bytesPerSecond)}/s`;
  return `${state} [${cells}] round ${round}, ${mib(bytesRemaining)} left, ${rate}${slowed}`;
}

/** Waits for the end and shows the way there. */
async function follow(client: Client, migration: string, terminal: Terminal): Promise<Migration> {
  const { draw } = terminal;
  let told = "";
  for (;;) {
    const query = { wait: LOOK_S };
    const now = await client.call("getMigration", { migration }, undefined, query);
    if (draw !== null) draw(`${ERASE_LINE}${progressLine(now)}`);
    const news = `${now.state} ${now.progress?.round ?? 0}`;
    if (draw === null && news !== told) terminal.warn(progressLine(now));
    told = news;
    if (!ENDED.has(now.state)) continue;
    draw?.(ERASE_LINE);
    return now;
  }
}

function summary({ state, statistics, progress, peer, failure, decision }: Migration): string {
  if (state !== "completed") {
    const causes = (failure?.causes ?? []).map((cause) => `\n  because: ${cause}`).join("");
    const why = failure === null ? "" : ` (${failure.side}): ${failure.detail}${causes}`;
    return `The migration is ${state}${why}\n`;
  }
  const ms = (value: number | null | undefined) => `${Math.round(value ?? 0)} ms`;
  const rounds = progress?.round ?? 0;
  const sent = mib(progress?.bytes ?? 0);
  const why = decision === null ? "" : ` ${decision.why}`;
  return (
    `It runs on ${peer}: ${ms(statistics?.totalMs)}, ${rounds} rounds, ${sent} sent, ` +
    `down for ${ms(statistics?.downtimeMs)}.${why}\n`
  );
}

async function dryRun(client: Client, body: Body, terminal: Terminal): Promise<number> {
  // The document's first answer is the job; a dry run gives the other.
  const answer: unknown = await client.call("createMigration", {}, body);
  const found = answer as MigrationPreflight;
  const images = found.missingImages.length;
  if (images > 0) terminal.write(`${images} images are sent first.\n`);
  for (const { side, detail } of found.reasons) terminal.write(`${side}: ${detail}\n`);
  const { possible } = found;
  terminal.write(possible ? `It can move: ${mib(found.memoryBytes)}.\n` : "It can't move.\n");
  return possible ? EXIT.ok : EXIT.failed;
}

async function move(
  client: Client,
  given: string,
  values: Values,
  terminal: Terminal,
): Promise<number> {
  const body = bodyOf(given, values);
  const asked = { ...body, vmId: await vmOf(client, given) };
  if (values["dry-run"]) return dryRun(client, asked, terminal);
  const { id } = await client.call("createMigration", {}, asked);
  if (values.detach) {
    terminal.write(`${id}\n`);
    return EXIT.ok;
  }
  const stop = terminal.onInterrupt(() => {
    // Too late is no failure of ours: the end tells.
    client.call("cancelMigration", { migration: id }).catch(() => {});
  });
  const ended = await follow(client, id, terminal).finally(stop);
  terminal.write(values.json ? `${JSON.stringify(ended, null, 2)}\n` : summary(ended));
  if (ended.state === "cancelled") return EXIT.interrupted;
  return ended.state === "completed" ? EXIT.ok : EXIT.failed;
}

export async function migrate(args: readonly string[], terminal: Terminal): Promise<number> {
  const { values, positionals } = read(args);
  if (values.help) {
    terminal.write(USAGE);
    return EXIT.ok;
  }
  const [vm, ...more] = positionals;
  if (vm === undefined || more.length > 0) throw usage("migrate takes one VM.");
  // Before anybody is asked.
  bodyOf(vm, values);
  const host: HostOptions = hostOf(values, SERVER_DEFAULT, usage);
  const { client } = await openHost(host);
  return move(client, vm, values, terminal);
}

const COLUMNS = ["ID", "STATE", "WAY", "VM", "PEER", "ROUNDS", "SENT", "DOWN"] as const;

function row(migration: Migration): readonly string[] {
  const { id, state, direction, vmName, vmId, peer, progress, statistics } = migration;
  const down = statistics?.downtimeMs ?? null;
  return [
    ...[id, state, direction === "outgoing" ? "to" : "from", vmName ?? vmId, peer],
    ...[String(progress?.round ?? 0), mib(progress?.bytes ?? 0)],
    down === null ? "-" : `${Math.round(down)} ms`,
  ];
}

/** Every migration of the host, a line each. */
export async function migrations(args: readonly string[], terminal: Terminal): Promise<number> {
  const { values, positionals } = read(args);
  if (values.help) {
    terminal.write(USAGE);
    return EXIT.ok;
  }
  if (positionals.length > 0) throw usage("migrations takes no VM.");
  const { client } = await openHost(hostOf(values, SERVER_DEFAULT, usage));
  const rows: (readonly string[])[] = [COLUMNS];
  let cursor: string | null = null;
  do {
    const query: Readonly<Record<string, string>> = cursor === null ? {} : { cursor };
    const page: Operations["listMigrations"]["answer"] = await client.call(
      "listMigrations",
      {},
      undefined,
      query,
    );
    for (const migration of page.items) rows.push(row(migration));
    cursor = page.nextCursor;
  } while (cursor !== null);
  terminal.write(table(rows));
  return EXIT.ok;
}
