// Owns: a VM's definition from the body of its creation, defaults applied here. HTTP thread.
import type { Static } from "typebox";
import { invalid } from "../content.js";
import { PAGE_SIZE_DEFAULT, type VmCreate } from "../schemas/vms.schema.js";
import type { VmSpec } from "../services.js";
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
] as const;

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
        mode: body.clock?.mode ?? "virtual",
        nsPerInstruction: body.clock?.nsPerInstruction ?? 1,
        idle: body.clock?.idle ?? "jump",
      },
      dirtyTracking: body.dirtyTracking ?? "write-protect",
    },
    replay: body.inputs?.log ?? null,
    validateOnly: body.validateOnly ?? false,
  };
}
