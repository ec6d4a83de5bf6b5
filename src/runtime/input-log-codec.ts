// Owns: an input log as JSON-ready data and back, with strict checks. HTTP thread.
import { ServiceError } from "../base/errors.js";
import { PAGE_SIZES } from "../base/page.js";
import {
  BOARD_LIMITS,
  type BoardDefinition,
  type Command,
  type CommandName,
  type DirtyDefinition,
  type ImageRef,
  type Stamp,
  type VmDefinition,
  whyNotDirty,
} from "../vmm/index.js";
import {
  type ArgShape,
  BadShape,
  count,
  decodeArg,
  encodeArg,
  exactList,
  exactObject,
  fail,
  flag,
  integer,
  oneOf,
  settings,
  text,
  texts,
  u64,
} from "./arg-shapes.js";
import type { InputLog, LoggedCommand } from "./handle.js";
import { COMMAND_ROWS } from "./logged.table.js";

/** @returns JSON-ready data: u64 as "0x…", bytes as base64. */
export function encodeInputLog(log: InputLog): unknown {
  return encodeArg(log);
}

/**
 * Reads what encodeInputLog wrote.
 * @throws ServiceError "bad-input-log" with one sentence that names the place
 */
export function decodeInputLog(data: unknown): InputLog {
  const isGiven = (name: string) => typeof data === "object" && data !== null && name in data;
  const [hasEnd, hasWhy] = [isGiven("end"), isGiven("why")];
  const more = ["end", "why"].filter(isGiven);
  const names = ["version", "definition", "entries", "truncated", ...more];
  const fields = at("The input log", () => exactObject(data, names));
  at("version", () => oneOf(fields["version"], [1]));
  const truncated = at("truncated", () => flag(fields["truncated"]));
  const definition = decodeDefinition(fields["definition"]);
  const list = at("entries", () => exactList(fields["entries"]));
  const entries = list.map((entry, i) => decodeEntry(entry, `entries[${i}]`));
  entries.slice(1).forEach(({ stamp }, i) => {
    checkOrder(entries[i]?.stamp, stamp, `entries[${i + 1}].stamp`);
  });
  const why = hasWhy ? { why: at("why", () => text(fields["why"])) } : {};
  const log: InputLog = { version: 1, definition, entries, truncated, ...why };
  if (!hasEnd) return log;
  const end = decodeStamp(fields["end"], "end");
  checkOrder(entries.at(-1)?.stamp, end, "end");
  return { ...log, end };
}

const DEFINITION_FIELDS = ["type", "pageSize", "hostCpus", "seed", "clock", "dirtyTracking"];

function decodeDefinition(data: unknown): VmDefinition {
  const place = "definition";
  const isGiven = (name: string) => typeof data === "object" && data !== null && name in data;
  const more = ["board", "dirty"].filter(isGiven);
  const fields = at(place, () => exactObject(data, [...DEFINITION_FIELDS, ...more]));
  const clock = at(`${place}.clock`, () =>
    exactObject(fields["clock"], ["mode", "nsPerInstruction", "idle"]),
  );
  const definition = {
    type: at(`${place}.type`, () => u64(fields["type"])),
    pageSize: at(`${place}.pageSize`, () => oneOf(fields["pageSize"], PAGE_SIZES)),
    hostCpus: at(`${place}.hostCpus`, () => count(fields["hostCpus"])),
    seed: at(`${place}.seed`, () => u64(fields["seed"])),
    clock: {
      mode: at(`${place}.clock.mode`, () => oneOf(clock["mode"], ["virtual", "wall"] as const)),
      nsPerInstruction: at(`${place}.clock.nsPerInstruction`, () =>
        integer(clock["nsPerInstruction"], 1, 1_000_000),
      ),
      idle: at(`${place}.clock.idle`, () => oneOf(clock["idle"], ["jump", "paced"] as const)),
    },
    dirtyTracking: at(`${place}.dirtyTracking`, () =>
      oneOf(fields["dirtyTracking"], ["write-protect", "dbm"] as const),
    ),
  };
  return {
    ...definition,
    ...(isGiven("dirty") ? { dirty: decodeDirty(fields["dirty"], `${place}.dirty`) } : {}),
    ...(isGiven("board") ? { board: decodeBoard(fields["board"], `${place}.board`) } : {}),
  };
}

function decodeDirty(data: unknown, place: string): DirtyDefinition {
  const fields = at(place, () => exactObject(data, ["settings", "seedBugs"]));
  const dirty = {
    settings: at(`${place}.settings`, () => settings(fields["settings"])),
    seedBugs: at(`${place}.seedBugs`, () => texts(fields["seedBugs"])),
  };
  const why = whyNotDirty(dirty);
  return why === null ? dirty : at(place, () => fail(`is wrong: ${why}`));
}

const BOARD_FIELDS = ["image", "initrd", "cmdline", "memoryMiB", "vcpus"];
const BOARD_DEVICES = [
  ...["gic", "its", "dirtyRingEntries", "rtc", "pci", "virtio", "rng", "console", "disk"],
  "firmware",
];

function decodeBoard(data: unknown, place: string): BoardDefinition {
  const isGiven = (name: string) => typeof data === "object" && data !== null && name in data;
  const more = BOARD_DEVICES.filter(isGiven);
  const fields = at(place, () => exactObject(data, [...BOARD_FIELDS, ...more]));
  return {
    image: decodeImageOrNull(fields["image"], `${place}.image`),
    initrd: decodeImageOrNull(fields["initrd"], `${place}.initrd`),
    cmdline: at(`${place}.cmdline`, () => text(fields["cmdline"])),
    memoryMiB: at(`${place}.memoryMiB`, () =>
      integer(fields["memoryMiB"], BOARD_LIMITS.memoryMiBMin, BOARD_LIMITS.memoryMiBMax),
    ),
    vcpus: at(`${place}.vcpus`, () => integer(fields["vcpus"], 1, BOARD_LIMITS.vcpusMax)),
    ...Object.fromEntries(
      more.map((name) => [name, decodeDevice(name, fields[name], `${place}.${name}`)]),
    ),
  };
}

const DEVICE_VALUES: Readonly<Record<string, readonly (string | number)[]>> = {
  gic: [2, 3, 5],
  virtio: ["modern", "legacy"],
  console: ["virtio", "testdev"],
};

function decodeDevice(name: string, data: unknown, place: string): unknown {
  if (name === "disk" || name === "firmware") return decodeImage(data, place);
  if (name === "dirtyRingEntries") return at(place, () => count(data));
  const values = DEVICE_VALUES[name];
  if (values !== undefined) return at(place, () => oneOf(data, values));
  return at(place, () => (data === true ? data : fail("is not true, though it is there")));
}

function decodeImageOrNull(data: unknown, place: string): ImageRef | null {
  return data === null ? null : decodeImage(data, place);
}

function decodeImage(data: unknown, place: string): ImageRef {
  const fields = at(place, () => exactObject(data, ["name", "sha256", "size"]));
  return {
    name: at(`${place}.name`, () => text(fields["name"])),
    sha256: at(`${place}.sha256`, () => text(fields["sha256"])),
    size: at(`${place}.size`, () => count(fields["size"])),
  };
}

function decodeEntry(data: unknown, place: string): LoggedCommand {
  const fields = at(place, () => exactObject(data, ["stamp", "command"]));
  return {
    stamp: decodeStamp(fields["stamp"], `${place}.stamp`),
    command: decodeCommand(fields["command"], `${place}.command`),
  };
}

function decodeStamp(data: unknown, place: string): Stamp {
  const fields = at(place, () =>
    exactObject(data, ["seq", "step", "instructions", "virtualNs", "cut"]),
  );
  return {
    seq: at(`${place}.seq`, () => count(fields["seq"])),
    step: at(`${place}.step`, () => count(fields["step"])),
    instructions: at(`${place}.instructions`, () => count(fields["instructions"])),
    virtualNs: at(`${place}.virtualNs`, () => count(fields["virtualNs"])),
    cut: at(`${place}.cut`, () => flag(fields["cut"])),
  };
}

function decodeCommand(data: unknown, place: string): Command {
  const fields = at(place, () => exactObject(data, ["name", "args"]));
  const name = at(`${place}.name`, () => loggedName(fields["name"]));
  const { args: raw } = fields;
  const isGiven = (arg: string) => typeof raw === "object" && raw !== null && arg in raw;
  const all = Object.entries(COMMAND_ROWS[name].args) as [string, ArgShape][];
  const shapes = all.filter(([arg, shape]) => !shape.endsWith("-if-given") || isGiven(arg));
  const names = shapes.map(([arg]) => arg);
  const given = at(`${place}.args`, () => exactObject(raw, names));
  const args = Object.fromEntries(
    shapes.map(([arg, shape]) => [
      arg,
      at(`${place}.args.${arg}`, () => decodeArg(shape, given[arg])),
    ]),
  );
  return { name, args } as unknown as Command;
}

function loggedName(data: unknown): CommandName {
  const known = typeof data === "string" && Object.hasOwn(COMMAND_ROWS, data);
  if (!known) fail("is not the name of a command");
  const name = data as CommandName;
  const { logged, spoils } = COMMAND_ROWS[name];
  if (!logged) fail(`names ${name}, which is never an input`);
  return spoils === undefined ? name : fail(`names ${name}, which no log keeps`);
}

/** Inputs of one VM never go back in its sequence or its time. */
function checkOrder(a: Stamp | undefined, b: Stamp, place: string): void {
  const inOrder =
    a === undefined ||
    (a.seq < b.seq &&
      a.step <= b.step &&
      a.instructions <= b.instructions &&
      a.virtualNs <= b.virtualNs);
  at(place, () => (inOrder ? null : fail("lies before the stamp that precedes it")));
}

/** Runs one check and names the place in its refusal. */
function at<T>(place: string, check: () => T): T {
  try {
    return check();
  } catch (error) {
    if (!(error instanceof BadShape)) throw error;
    throw new ServiceError("bad-input-log", `${place} ${error.message}.`, { place });
  }
}
