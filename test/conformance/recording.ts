// Owns: the shape of a recording (JSON lines), its reading, and what is to be done with each line.
// Any thread. Knows the format, never the content of a particular file.
import type { Line } from "./line.js";
import { type SkipRule, skipRuleFor } from "./skip-rules.table.js";

/** The part of the header that a replay needs. */
export interface Header {
  readonly subject: string;
  readonly pageSize: number;
  /** The test memory: user addresses [base, base + size). */
  readonly hostBase: bigint;
  readonly hostSize: bigint;
  /** Guest-physical memory that the recorder keeps to itself: no recorded call goes there. */
  readonly reserved: bigint;
}

/**
 * What happens to a line:
 * "compare": carried out and compared; "quirk": carried out, either answer is right;
 * "setup": another architecture's, carried out and not compared; "marked": the same, left out;
 * "rule": has no meaning over HTTP, see the rule for what of it is carried out.
 */
export type Plan =
  | { readonly kind: "compare" | "quirk" | "setup" | "marked" }
  | { readonly kind: "rule"; readonly rule: SkipRule };

export interface PlannedLine {
  readonly line: Line;
  readonly plan: Plan;
}

export interface Scenario {
  readonly name: string;
  /** Without the "scenario" line itself. */
  readonly lines: readonly PlannedLine[];
}

export interface Recording {
  readonly header: Header;
  readonly scenarios: readonly Scenario[];
  /** Lines that could not be read, as sentences; each counts as failed. */
  readonly faults: readonly string[];
}

/**
 * Reads one file.
 * @returns a sentence instead of a recording when the file is of another kind
 */
export function parseRecording(text: string): Recording | string {
  const rows = text.split("\n").filter((row) => row.trim() !== "");
  const header = parseHeader(rows[0]);
  if (typeof header === "string") return header;
  const faults: string[] = [];
  const scenarios: { name: string; lines: Line[] }[] = [];
  for (const [index, row] of rows.entries()) {
    if (index === 0) continue;
    const line = parseLine(row);
    if (line === undefined) {
      faults.push(`row ${index + 1} is not a recorded call: ${row.slice(0, 120)}`);
    } else if (line.op === "scenario") {
      scenarios.push({ name: String(line.args["name"] ?? ""), lines: [] });
    } else {
      if (scenarios.length === 0) scenarios.push({ name: "", lines: [] });
      scenarios.at(-1)!.lines.push(line);
    }
  }
  return {
    header,
    faults,
    scenarios: scenarios.map(({ name, lines }) => ({ name, lines: planScenario(lines) })),
  };
}

/** A kind is recognised by its header's members, so that other subjects of this kind replay too. */
function parseHeader(row: string | undefined): Header | string {
  const value = parseObject(row ?? "");
  if (value === undefined) return "its first line is not a JSON object";
  if (value["op"] !== "header") return `its first line is not a header of calls`;
  if (value["format"] !== 1) return `its format is ${JSON.stringify(value["format"])}, not 1`;
  const memory = value["host_memory"];
  if (typeof memory !== "object" || memory === null) return "its header names no host_memory";
  const { userspace_addr: base, size } = memory as Record<string, unknown>;
  const pageSize = value["page_size"];
  if (typeof base !== "string" || typeof size !== "string" || typeof pageSize !== "number") {
    return "its header lacks page_size or the address and size of host_memory";
  }
  return {
    subject: String(value["subject"] ?? ""),
    pageSize,
    hostBase: BigInt(base),
    hostSize: BigInt(size),
    reserved: reservedAddress(value["reserved_for_recorder"]),
  };
}

/** Where the description of the format has it, unless the header says otherwise. */
const RESERVED_ADDRESS = "0xff0000000";

function reservedAddress(reserved: unknown): bigint {
  const { guest_phys_addr: address } = (reserved ?? {}) as Record<string, unknown>;
  return BigInt(typeof address === "string" ? address : RESERVED_ADDRESS);
}

function parseLine(row: string): Line | undefined {
  const value = parseObject(row);
  if (value === undefined || typeof value["op"] !== "string") return undefined;
  if (typeof value["i"] !== "number" || typeof value["on"] !== "string") return undefined;
  return { ret: 0, errno: null, args: {}, out: {}, ...value } as unknown as Line;
}

function parseObject(row: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(row);
    if (typeof value !== "object" || value === null || Array.isArray(value)) return undefined;
    return value as Record<string, unknown>;
  } catch {
    return undefined;
  }
}

/**
 * Decides for each line of a scenario. Marked calls that had an effect are set-up for what follows;
 * marked refusals had none, and might have one here, so they are left out. Once "span" was seen
 * the rings differ for good. After the last unmarked line nothing is worth carrying out, which
 * also covers scenarios of another architecture altogether.
 */
export function planScenario(lines: readonly Line[]): PlannedLine[] {
  const spanAt = lines.findIndex((line) => line.why === "span");
  const isMarked = (line: Line, at: number): boolean =>
    line.arch === "x86" || (spanAt >= 0 && at >= spanAt);
  const lastUnmarked = lines.findLastIndex((line, at) => !isMarked(line, at));
  return lines.map((line, at) => {
    if (isMarked(line, at)) {
      const isSetup = at < lastUnmarked && line.errno === null && skipRuleFor(line) === undefined;
      return { line, plan: { kind: isSetup ? "setup" : "marked" } };
    }
    const rule = skipRuleFor(line);
    if (rule !== undefined) return { line, plan: { kind: "rule", rule } };
    return { line, plan: { kind: line.quirk === undefined ? "compare" : "quirk" } };
  });
}
