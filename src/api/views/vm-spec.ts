// Owns: a VM's definition from the body of its creation, defaults applied here. HTTP thread.
import type { Static } from "typebox";
import { invalid } from "../content.js";
import { BOARD_DEFAULTS } from "../schemas/board.schema.js";
import { PAGE_SIZE_DEFAULT, type VmCreate } from "../schemas/vms.schema.js";
import type { BoardSpec, VmSpec } from "../services.js";
import { bigOr } from "../support.js";

type Body = Static<typeof VmCreate>;

/** Fields that a replayed log decides. */
const DEFINING = [
  "type",
  "ipaBits",
  "pageSize",
  "hostCpus",
  "seed",
  "clock",
  "dirtyTracking",
  "dirty",
  "board",
] as const;

/** @throws ServiceError "validation" for what makes no sense together */
function checkBoard({ image, initrd, firmware, gic, its }: NonNullable<Body["board"]>): void {
  const has = (name: string | null | undefined) => name !== undefined && name !== null;
  if (!has(image) && !has(firmware)) throw invalid("/board/image", "is needed without firmware");
  if (has(initrd) && !has(image)) throw invalid("/board/initrd", "needs an image beside it");
  if (its === true && gic !== 3) throw invalid("/board/its", "is part of gic 3");
}

/** What was asked for: the definition has nothing else. */
function devicesOf(board: NonNullable<Body["board"]>) {
  const { gic, its, dirtyRingEntries, rtc, pci, virtio, rng } = board;
  const port = board["console"];
  return {
    ...(gic === undefined || gic === null ? {} : { gic }),
    ...(its === true ? { its } : {}),
    ...(dirtyRingEntries === undefined ? {} : { dirtyRingEntries }),
    ...(rtc === true ? { rtc } : {}),
    ...(pci === true ? { pci } : {}),
    ...(virtio === undefined ? {} : { virtio }),
    ...(rng === true ? { rng } : {}),
    ...(port === undefined || port === null ? {} : { console: port }),
  };
}

function boardOf({ board }: Body): BoardSpec | null {
  if (board === undefined) return null;
  checkBoard(board);
  const devices = devicesOf(board);
  const { firmware, disk } = board;
  return {
    image: board.image ?? null,
    initrd: board.initrd ?? null,
    ...(firmware === undefined || firmware === null ? {} : { firmware }),
    ...(disk === undefined || disk === null ? {} : { disk }),
    devices,
    cmdline: board.cmdline ?? "",
    memoryMiB: board.memoryMiB ?? BOARD_DEFAULTS.memoryMiB,
    vcpus: board.vcpus ?? BOARD_DEFAULTS.vcpus,
  };
}

/** Absent where nothing was asked for: such a VM's definition stays as it always was. */
function dirtyOf({ dirty }: Body) {
  if (dirty === undefined) return {};
  return { dirty: { settings: dirty.settings ?? {}, seedBugs: dirty.seedBugs ?? [] } };
}

function checkTogether(body: Body): void {
  if (body.type !== undefined && body.ipaBits !== undefined) {
    throw invalid("/ipaBits", "can't be given together with type");
  }
  if (body.inputs === undefined) return;
  const given = DEFINING.find((name) => body[name] !== undefined);
  if (given !== undefined) throw invalid(`/${given}`, "comes from the log in inputs");
}

/**
 * Completes the body of a creation.
 * @param defaultSeed seed of a VM that names none
 * @throws ServiceError "validation" for fields that exclude each other
 */
export function specOf(body: Body, defaultSeed: bigint): VmSpec {
  checkTogether(body);
  const board = boardOf(body);
  // DESIGN 3: a board lives in real time unless it is asked to be exact.
  const mode = body.clock?.mode ?? (board === null ? "virtual" : "wall");
  return {
    name: body.name ?? null,
    uuid: body.uuid?.toLowerCase() ?? null,
    labels: body.labels ?? {},
    definition: {
      type: bigOr(body.type, BigInt(body.ipaBits ?? 0)),
      pageSize: body.pageSize ?? PAGE_SIZE_DEFAULT,
      hostCpus: body.hostCpus ?? 0,
      seed: bigOr(body.seed, defaultSeed),
      clock: {
        mode,
        nsPerInstruction: body.clock?.nsPerInstruction ?? 1,
        idle: body.clock?.idle ?? (board === null ? "jump" : "paced"),
      },
      dirtyTracking: body.dirtyTracking ?? "write-protect",
      ...dirtyOf(body),
    },
    board,
    replay: body.inputs?.log ?? null,
    validateOnly: body.validateOnly ?? false,
  };
}
