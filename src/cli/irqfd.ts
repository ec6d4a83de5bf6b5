// Owns: `tidemark irqfd`: eventfds that raise a VM's interrupts, and those that tell of their end.
// CLI process.
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

const IRQFD_USAGE = `usage: tidemark irqfd VERB ... [options]

  assign VM GSI             lets an eventfd raise interrupt GSI; prints the eventfds
      --eventfd ID          this one (a new one)
      --resample            level-triggered: a second one tells when the guest is done with it
  deassign VM GSI EVENTFD   takes it back; the eventfd stays
  signal EVENTFD [N]        adds N to it (1): the interrupt is raised
  wait EVENTFD              until it is signalled, as a resampler's is by the guest's EOI; takes and
                            prints its count
      --timeout SECONDS     gives up after that long, with status 124

      --json                as JSON
      --server URL          the host of the VM (${SERVER_DEFAULT})
      --token-file FILE     holds the bearer token for it
`;

const OPTIONS = {
  eventfd: text,
  resample: flag,
  timeout: text,
  json: flag,
  ...HOST_OPTIONS,
} as const;

/** How long one request waits; Ctrl-C is looked at in between. */
const WAIT_S_MAX = 2;
const MS_PER_S = 1000;

type Job = (client: Client, terminal: Terminal) => Promise<unknown>;

interface IrqfdOptions extends HostOptions {
  readonly job: Job;
  readonly asJson: boolean;
}

const usage = usageOf(IRQFD_USAGE);

function read(args: readonly string[]) {
  try {
    return parseArgs({ args: [...args], options: OPTIONS, allowPositionals: true });
  } catch (error) {
    throw usage((error as Error).message);
  }
}

type Values = ReturnType<typeof read>["values"];

async function newEventfd(client: Client): Promise<string> {
  return (await client.call("createEventfd")).id;
}

function assign([vm, gsi]: readonly string[], values: Values): Job {
  const line = whole("GSI", gsi, usage);
  return async (client) => {
    const made: string[] = [];
    const make = async () => {
      const id = await newEventfd(client);
      made.push(id);
      return id;
    };
    try {
      const eventfd = values.eventfd ?? (await make());
      const resample = values.resample ? { resampleEventfd: await make() } : {};
      const body = { eventfd, gsi: line, ...resample };
      await client.call("createIrqfd", { vm: vm ?? "" }, body);
      return body;
    } catch (error) {
      for (const id of made) await client.call("deleteEventfd", { id }).catch(() => {});
      throw error;
    }
  };
}

function deassign([vm, gsi, eventfd]: readonly string[]): Job {
  const query = { eventfd: eventfd ?? "", gsi: String(whole("GSI", gsi, usage)) };
  return async (client) => {
    await client.call("deassignIrqfd", { vm: vm ?? "" }, undefined, query);
    return query;
  };
}

function signal([eventfd, count = "1"]: readonly string[]): Job {
  const value = String(whole("N", count, usage));
  return async (client) => {
    await client.call("writeEventfd", { id: eventfd ?? "" }, { value });
    return { eventfd, signalled: Number(value) };
  };
}

/**
 * The count, taken; null where somebody else took it first.
 * @param after the read before it, which is acknowledged with this one
 */
async function taken(client: Client, id: string, after?: string): Promise<number | null> {
  try {
    const query: Readonly<Record<string, string>> = after === undefined ? {} : { after };
    const read = await client.call("readEventfd", { id }, undefined, query);
    // What another command took and nobody has acknowledged comes again.
    if (read.repeated && after === undefined) return await taken(client, id, read.id);
    return Number(read.value);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    if (error.members["errno"] === "EAGAIN") return null;
    const { unacknowledged } = error.members;
    if (after !== undefined || typeof unacknowledged !== "string") throw error;
    return taken(client, id, unacknowledged);
  }
}

function wait([eventfd = ""]: readonly string[], values: Values): Job {
  const timeoutS =
    values.timeout === undefined ? null : positive("timeout", values.timeout, 0, usage);
  return async (client, terminal) => {
    const { ending, stop } = endings("irqfd wait", timeoutS, terminal);
    const end = timeoutS === null ? null : systemClock.monotonicMs() + timeoutS * MS_PER_S;
    try {
      for (;;) {
        const leftS = end === null ? WAIT_S_MAX : (end - systemClock.monotonicMs()) / MS_PER_S;
        const query = { wait: String(Math.min(WAIT_S_MAX, Math.max(0, Math.ceil(leftS)))) };
        const { count } = await client.call("getEventfd", { id: eventfd }, undefined, query);
        const value = Number(count) === 0 ? null : await taken(client, eventfd);
        if (value !== null) return { eventfd, count: value };
        if (ending.cause !== null) throw ending.cause;
      }
    } finally {
      stop();
    }
  };
}

/** Arguments of each verb: how many at least and at most, and what it does. */
const VERBS = {
  assign: { min: 2, max: 2, job: assign },
  deassign: { min: 3, max: 3, job: deassign },
  signal: { min: 1, max: 2, job: signal },
  wait: { min: 1, max: 1, job: wait },
} as const;

function irqfdOptions(args: readonly string[]): IrqfdOptions | null {
  const { values, positionals } = read(args);
  if (values.help) return null;
  const [verb = "", ...rest] = positionals;
  const row = Object.entries(VERBS).find(([name]) => name === verb)?.[1];
  if (row === undefined) throw usage(`irqfd takes ${Object.keys(VERBS).join(", ")}.`);
  if (rest.length < row.min || rest.length > row.max) throw usage(`irqfd ${verb} takes others.`);
  return {
    ...hostOf(values, SERVER_DEFAULT, usage),
    job: row.job(rest, values),
    asJson: values.json,
  };
}

/** Fields of a result, a line each. */
function lines(result: unknown): string {
  return Object.entries(result as object)
    .map(([name, value]) => `${name} ${value}\n`)
    .join("");
}

/** @returns the exit code */
export async function irqfd(args: readonly string[], terminal: Terminal): Promise<number> {
  const options = irqfdOptions(args);
  if (options === null) {
    terminal.write(IRQFD_USAGE);
    return EXIT.ok;
  }
  const { client } = await openHost(options);
  const result = await options.job(client, terminal);
  terminal.write(options.asJson ? `${JSON.stringify(result)}\n` : lines(result));
  return EXIT.ok;
}
