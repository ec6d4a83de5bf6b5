// Owns: a VM's definition from the body of its creation, defaults applied here. HTTP thread.
import type { Static } from "typebox";
import { ERRNO } from "../../base/errno.table.js";
import { ServiceError } from "../../base/errors.js";
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

/** @throws ServiceError "not-implemented" for an interrupt controller */
function boardOf({ board }: Body): BoardSpec | null {
  if (board === undefined) return null;
  if (board.gic !== undefined) {
    const why = "A board has no interrupt controller on this host yet: leave `gic` out.";
    const ioctl = "KVM_CREATE_DEVICE";
    throw new ServiceError("not-implemented", why, {
      ioctl,
      errno: "ENODEV",
      errnoValue: ERRNO.ENODEV,
    });
  }
  return {
    image: board.image,
    initrd: board.initrd ?? null,
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
