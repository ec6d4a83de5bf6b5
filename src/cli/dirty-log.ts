// Owns: `tidemark dirty-log`: a slot's dirty pages, read, cleared or watched. CLI process.
//
// A VM whose reads clear (no KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2) is read by a harvest, which is
// acknowledged when it has been printed: no page is lost with a lost reply.
import { parseArgs } from "node:util";
import { systemClock } from "../base/clock.js";
import { type Client, Refused } from "./client.js";
import { endings, type Terminal } from "./ending.js";
import { EXIT } from "./failure.js";
import { type HostOptions, openHost } from "./host.js";
import {
  flag,
  HOST_OPTIONS,
  hostOf,
  positive,
  SERVER_DEFAULT,
  text,
  usageOf,
  whole,
} from "./options.js";

const DIRTY_LOG_USAGE = `usage: tidemark dirty-log VERB VM SLOT [options]

  get VM SLOT               the pages that are dirty; they stay so where the VM lets CLEAR decide
  clear VM SLOT             clears what is dirty now, and says what that was
  watch VM SLOT             clears again and again, a line each time, until Ctrl-C

      --interval MS         between two lines of watch (1000)
      --count N             lines of watch (no end)
      --json                as JSON; watch: a line each
      --server URL          the host of the VM (${SERVER_DEFAULT})
      --token-file FILE     holds the bearer token for it
`;

const OPTIONS = { interval: text, count: text, json: flag, ...HOST_OPTIONS } as const;
const INTERVAL_MS = 1000;
/** How often watch looks whether it shall end. */
const LOOK_MS = 100;
/** Shown to a person; JSON has all. */
const RANGES_SHOWN = 16;

interface Slot {
  readonly vm: string;
  readonly slot: string;
}

interface Log {
  readonly npages: number;
  readonly count: number;
  readonly ranges: readonly (readonly number[])[];
  /** Reading it has cleared it. */
  readonly isCleared: boolean;
}

type Verb = "get" | "clear" | "watch";

interface DirtyLogOptions extends HostOptions, Slot {
  readonly verb: Verb;
  readonly intervalMs: number;
  readonly count: number;
  readonly asJson: boolean;
}

function dirtyLogOptions(args: readonly string[]): DirtyLogOptions | null {
  const usage = usageOf(DIRTY_LOG_USAGE);
  const read = () => {
    try {
      return parseArgs({ args: [...args], options: OPTIONS, allowPositionals: true });
    } catch (error) {
      throw usage((error as Error).message);
    }
  };
  const { values, positionals } = read();
  if (values.help) return null;
  const [verb, vm, slot, ...more] = positionals;
  if (verb !== "get" && verb !== "clear" && verb !== "watch") {
    throw usage("dirty-log takes get, clear or watch.");
  }
  if (vm === undefined || more.length > 0) throw usage(`dirty-log ${verb} takes a VM and a slot.`);
  return {
    ...hostOf(values, SERVER_DEFAULT, usage),
    verb,
    vm,
    slot: String(whole("SLOT", slot, usage)),
    intervalMs: positive("interval", values.interval, INTERVAL_MS, usage),
    count: positive("count", values.count, Number.POSITIVE_INFINITY, usage),
    asJson: values.json,
  };
}

async function read(client: Client, at: Slot): Promise<Log> {
  const params = { vm: at.vm, slot: at.slot };
  try {
    return { ...(await client.call("getDirtyLog", params)), isCleared: false };
  } catch (error) {
    if (!(error instanceof Refused) || error.problem !== "destructive-read") throw error;
  }
  const { id, npages, count, ranges } = await client.call("createHarvest", params);
  await client.call("deleteHarvest", { ...params, harvest: id });
  return { npages, count, ranges, isCleared: true };
}

/** Clears exactly the pages that the log shows. @returns how many became clean */
async function clear(client: Client, at: Slot, log: Log): Promise<number> {
  if (log.isCleared || log.count === 0) return log.count;
  const params = { vm: at.vm, slot: at.slot };
  const body = { firstPage: "0", numPages: log.npages, ranges: log.ranges };
  return (await client.call("clearDirtyLog", params, body)).cleared;
}

const range = ([first = 0, pages = 0]: readonly number[]) =>
  pages === 1 ? String(first) : `${first}-${first + pages - 1}`;

/** A line for a person. */
export function dirtyLine({ npages, count, ranges }: Omit<Log, "isCleared">): string {
  const shown = ranges.slice(0, RANGES_SHOWN).map(range);
  const more =
    ranges.length > RANGES_SHOWN ? [`and ${ranges.length - RANGES_SHOWN} more runs`] : [];
  const pages = [...shown, ...more].join(", ");
  return `${count} of ${npages} pages dirty${pages === "" ? "" : `: ${pages}`}`;
}

async function once(client: Client, options: DirtyLogOptions): Promise<string> {
  const log = await read(client, options);
  const { npages, count, ranges, isCleared } = log;
  if (options.verb === "get") {
    if (options.asJson) return JSON.stringify({ npages, count, ranges, cleared: isCleared });
    return `${dirtyLine(log)}${isCleared ? " (and clean now: reading clears here)" : ""}`;
  }
  const cleared = await clear(client, options, log);
  if (options.asJson) return JSON.stringify({ npages, count, ranges, cleared });
  return `${dirtyLine(log)}; ${cleared} cleared`;
}

/** @param due of the monotonic clock, or when the signal comes */
async function until(due: number, signal: AbortSignal): Promise<void> {
  for (;;) {
    const left = due - systemClock.monotonicMs();
    if (left <= 0 || signal.aborted) return;
    await systemClock.sleep(Math.min(left, LOOK_MS));
  }
}

/** A round each interval, whatever it took; the first one has all that was dirty before. */
async function watch(
  client: Client,
  options: DirtyLogOptions,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<void> {
  const start = systemClock.monotonicMs();
  let before = start;
  for (let at = 0; at < options.count; at++) {
    if (at > 0) {
      await until(start + at * options.intervalMs, signal);
    }
    if (signal.aborted) return;
    const log = await read(client, options);
    const cleared = await clear(client, options, log);
    const now = systemClock.monotonicMs();
    const ms = Math.round(now - start);
    const perSecond = at === 0 ? null : Math.round((log.count * 1000) / (now - before));
    before = now;
    const { npages, count } = log;
    const rate = perSecond === null ? "" : `, ${perSecond} pages/s`;
    const line = options.asJson
      ? JSON.stringify({ ms, npages, count, cleared, pagesPerSecond: perSecond })
      : `${(ms / 1000).toFixed(1)} s: ${count} of ${npages} pages dirty${rate}`;
    terminal.write(`${line}\n`);
  }
}

/** @returns the exit code */
export async function dirtyLog(args: readonly string[], terminal: Terminal): Promise<number> {
  const options = dirtyLogOptions(args);
  if (options === null) {
    terminal.write(DIRTY_LOG_USAGE);
    return EXIT.ok;
  }
  const { client } = await openHost(options);
  if (options.verb !== "watch") {
    terminal.write(`${await once(client, options)}\n`);
    return EXIT.ok;
  }
  const { ending, stop } = endings("dirty-log", null, terminal);
  try {
    await watch(client, options, terminal, ending.controller.signal);
    return ending.cause === null ? EXIT.ok : EXIT.interrupted;
  } finally {
    stop();
  }
}
