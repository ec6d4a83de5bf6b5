// Owns: `tidemark experiment`: a file to its results: progress, a table, CSV and picture.
// CLI process.
import { createHash } from "node:crypto";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { systemClock } from "../base/clock.js";
import type { Operations } from "../generated/client.js";
import type { Client } from "./client.js";
import type { Terminal } from "./ending.js";
import { EXIT, Failure } from "./failure.js";
import { type HostOptions, openHost } from "./host.js";
import {
  INTERRUPT_COLUMNS,
  type InterruptStrategy,
  interruptLine,
  isOfInterrupts,
} from "./interrupt-summary.js";

export interface ExperimentOptions extends HostOptions {
  readonly file: string;
  /** Files to write; null: none. */
  readonly csv: string | null;
  readonly svg: string | null;
  readonly json: string | null;
  /** What the picture shows. */
  readonly metric: string;
}

type Body = Operations["createExperiment"]["body"];
type Results = Operations["getExperimentResults"]["answer"];
type Strategy = Exclude<Results["strategies"][number], InterruptStrategy>;
type Row = Strategy["rows"][number];

const POLL_MS = 200;
/** Of an image's name. */
const NAME_MAX = 128;
/** Where `npm run guests:fetch` puts what Debian has. */
const GUESTS = ".guests";
const HOW_TO_GET_GUESTS =
  "`npm run guests:fetch` gets a kernel, `npm run initramfs -- .guests/initramfs-6.1` makes what " +
  "it unpacks.";
const DIGEST_DIGITS = 12; // tidy: hex digits

async function readBody(path: string): Promise<Body> {
  try {
    return JSON.parse(await readFile(path, "utf8")) as Body;
  } catch (error) {
    throw new Failure(`${path} can't be used: ${(error as Error).message}.`);
  }
}

/** The last file that fits a path whose name may have a `*`, as a kernel's version changes. */
async function fileOf(path: string): Promise<string> {
  const [before = "", after] = basename(path).split("*");
  if (after === undefined) return path;
  const names = await readdir(dirname(path)).catch(() => []);
  const fits = names.filter((name) => name.startsWith(before) && name.endsWith(after)).sort();
  return join(dirname(path), fits.at(-1) ?? basename(path));
}

/** An image that is a path, relative to the experiment's file, is uploaded. @returns its name */
async function imageOf(client: Client, given: string, file: string): Promise<string> {
  if (!given.includes("/")) return given;
  const path = await fileOf(join(dirname(file), given));
  const bytes = await readFile(path).catch((error: Error) => {
    const hint = path.split("/").includes(GUESTS) ? ` ${HOW_TO_GET_GUESTS}` : "";
    throw new Failure(`${path} can't be read: ${error.message}.${hint}`);
  });
  const digest = createHash("sha256").update(bytes).digest("hex").slice(0, DIGEST_DIGITS);
  const image = `${digest}-${basename(path)}`.slice(0, NAME_MAX);
  await client.call("putImage", { image }, new Uint8Array(bytes));
  return image;
}

async function uploaded(client: Client, body: Body, file: string): Promise<Body> {
  const { workload } = body;
  if (!("image" in workload)) return body;
  const image = await imageOf(client, workload.image, file);
  if (workload.initrd === undefined) return { ...body, workload: { ...workload, image } };
  const initrd = await imageOf(client, workload.initrd, file);
  return { ...body, workload: { ...workload, image, initrd } };
}

async function write(path: string, content: string): Promise<void> {
  try {
    await writeFile(path, content);
  } catch (error) {
    throw new Failure(`${path} can't be written: ${(error as Error).message}.`);
  }
}

/** Waits for the end and tells how far it is. */
async function follow(client: Client, experiment: string, terminal: Terminal) {
  let told = -1;
  for (;;) {
    const job = await client.call("getExperiment", { experiment });
    if (job.state !== "queued" && job.state !== "running") return job;
    const percent = Math.floor((job.progress.done / job.progress.total) * 10) * 10;
    if (percent > told) terminal.warn(`${percent} %, ${job.progress.strategy ?? job.state}`);
    told = Math.max(told, percent);
    await systemClock.sleep(POLL_MS);
  }
}

const COLUMNS = [
  ...["STRATEGY", "PAGES", "FALSE", "LOST", "EXITS", "STALL/PAGE", "FIRST", "CALLER/PAGE"],
  ...["LOCK/PAGE", "BATCHES", "BUFFERS", "MS"],
] as const;

/** One decimal where that says something. */
function round(value: number): string {
  return value >= 100 || Number.isInteger(value) ? String(Math.round(value)) : value.toFixed(1);
}

function line({ strategy, state, error, bufferBytes, rows }: Strategy): readonly string[] {
  const rounds = rows.filter(({ phase }) => phase === "round");
  const sum = (of: (row: Row) => number, among: readonly Row[] = rounds) =>
    among.reduce((total, row) => total + of(row), 0);
  const pages = sum((row) => row.dirtied);
  const perPage = (of: (row: Row) => number, among: readonly Row[] = rounds) =>
    round(
      sum(of, among) /
        Math.max(
          1,
          sum((row) => row.dirtied, among),
        ),
    );
  const exits = ({ exits: by }: Row) => by.mapFault + by.writeFault + by.hdbssFull + by.ringFull;
  if (state !== "done") return [strategy.name, `${state}: ${error ?? ""}`];
  return [
    strategy.name,
    String(pages),
    String(sum((row) => row.falsePositives)),
    String(sum((row) => row.lost, rows)),
    String(sum(exits)),
    perPage((row) => row.cycles.guestStall),
    perPage((row) => row.cycles.guestStall, rounds.slice(0, 1)),
    perPage((row) => row.cycles.ioctl),
    perPage((row) => row.cycles.lockHeld),
    String(sum((row) => row.batches)),
    String(bufferBytes),
    round(sum((row) => row.runMs + row.ioctlMs)),
  ];
}

/** A line per strategy; cycles per page that was dirtied. */
export function summary({ strategies }: Results): string {
  const ofInterrupts = strategies.filter(isOfInterrupts);
  if (ofInterrupts.length > 0) return columns(INTERRUPT_COLUMNS, ofInterrupts.map(interruptLine));
  const rest = strategies.filter((one): one is Strategy => !isOfInterrupts(one));
  return columns(COLUMNS, rest.map(line));
}

/** @param rows those of two cells are a name and what went wrong */
function columns(titles: readonly string[], rows: readonly (readonly string[])[]): string {
  const lines = [titles, ...rows];
  const widths = titles.map((_, at) =>
    Math.max(...lines.filter((cells) => cells.length > 2).map((cells) => cells[at]?.length ?? 0)),
  );
  const show = (cells: readonly string[]) =>
    cells
      .map((cell, at) => (at === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[at] ?? 0)))
      .join("  ");
  return lines.map((cells) => `${show(cells).trimEnd()}\n`).join("");
}

export async function experiment(options: ExperimentOptions, terminal: Terminal): Promise<number> {
  const asked = await readBody(options.file);
  const host = await openHost(options);
  try {
    const { client } = host;
    const body = await uploaded(client, asked, options.file);
    const { id } = await client.call("createExperiment", {}, body);
    const params = { experiment: id };
    const stop = terminal.onInterrupt(() => void client.call("cancelExperiment", params));
    const job = await follow(client, id, terminal).finally(stop);
    const results = await client.call("getExperimentResults", params);
    terminal.write(summary(results));
    if (job.stateReason !== null) terminal.warn(job.stateReason);
    const { csv, svg, json, metric } = options;
    if (csv !== null) await write(csv, await client.text("getExperimentCsv", params));
    if (svg !== null) await write(svg, await client.text("getExperimentChart", params, { metric }));
    if (json !== null) await write(json, `${JSON.stringify(results, null, 1)}\n`);
    if (job.state === "cancelled") return EXIT.interrupted;
    return job.state === "done" && job.stateReason === null ? EXIT.ok : EXIT.failed;
  } finally {
    await host.close();
  }
}
