// Owns: vCPUs, programs and runs as the wire shows and takes them. HTTP thread.
import type { Static } from "typebox";
import { ERRNO } from "../../base/errno.table.js";
import { hex } from "../../base/hex.js";
import { bytesHex } from "../content.js";
import type { Program as ProgramSchema } from "../schemas/vcpus.schema.js";
import type { ArgsOf, ResultOf, RunResource } from "../services.js";
import { big, bigOr } from "../support.js";

type Program = ArgsOf<"setProgram">["program"];
type RunResult = NonNullable<RunResource["result"]>;

function resultView(result: RunResult) {
  const { mmio, memoryFault, systemEvent, hypercall, armNisv, armSea, debug } = result;
  return {
    errno: result.errno,
    errnoValue: result.errno === null ? 0 : ERRNO[result.errno],
    exitReason: result.exitReason,
    ...(mmio === undefined
      ? {}
      : {
          mmio: {
            physAddr: hex(mmio.physAddr),
            len: mmio.len,
            isWrite: mmio.isWrite,
            data: bytesHex(mmio.data.subarray(0, mmio.len)),
          },
        }),
    ...(systemEvent === undefined
      ? {}
      : { systemEvent: { type: systemEvent.type, data: systemEvent.data.map(hex) } }),
    ...(hypercall === undefined
      ? {}
      : { hypercall: { nr: hex(hypercall.nr), flags: hex(hypercall.flags) } }),
    ...(armNisv === undefined
      ? {}
      : { armNisv: { esrIss: hex(armNisv.esrIss), faultIpa: hex(armNisv.faultIpa) } }),
    ...(debug === undefined ? {} : { debug: { hsr: hex(debug.hsr), far: hex(debug.far) } }),
    ...(armSea === undefined
      ? {}
      : {
          armSea: {
            flags: hex(armSea.flags),
            esr: hex(armSea.esr),
            gva: hex(armSea.gva),
            gpa: hex(armSea.gpa),
          },
        }),
    ...(memoryFault === undefined
      ? {}
      : {
          memoryFault: {
            flags: hex(memoryFault.flags),
            gpa: hex(memoryFault.gpa),
            size: hex(memoryFault.size),
          },
        }),
    ...(result.cleaned === undefined ? {} : { cleaned: { ...result.cleaned } }),
    deviceIrqLevel: result.deviceIrqLevel,
    retired: result.retired,
    program: { completed: result.program.completed, finished: result.program.finished },
  };
}

export function runView(run: RunResource) {
  return {
    id: run.id,
    vmId: run.vmId,
    vcpu: run.vcpu,
    state: run.state,
    kickRequested: run.kickRequested,
    result: run.result === null ? null : resultView(run.result),
  };
}

export function programStateView(state: ResultOf<"readProgram">) {
  return { ...state, loads: state.loads.map(hex) };
}

const WRITE_PERCENT_DEFAULT = 100;
const LENGTH_DEFAULT = 8;
/** zipf exponent 1.00; a tenth of the window is hot. */
const SKEW_DEFAULT: Readonly<Record<string, number>> = { zipf: 100, "hot-set": 10 };

/**
 * A program from its body, defaults applied here.
 * @param pageSize the VM's, for the default stride
 * @param seed the VM's, for a pattern that names none
 */
export function programOf(
  body: Static<typeof ProgramSchema>,
  pageSize: number,
  seed: bigint,
): Program {
  if (body.kind === "accesses") {
    return {
      kind: "accesses",
      accesses: body.accesses.map(({ op, address, length, value }) => ({
        op,
        address: big(address),
        length,
        ...(value === undefined ? {} : { value: big(value) }),
      })),
    };
  }
  return {
    kind: "pattern",
    pattern: body.pattern,
    base: big(body.base),
    bytes: big(body.bytes),
    count: body.count ?? 0,
    writePercent: body.writePercent ?? WRITE_PERCENT_DEFAULT,
    length: body.length ?? LENGTH_DEFAULT,
    stride: body.stride ?? pageSize,
    skew: body.skew ?? SKEW_DEFAULT[body.pattern] ?? 0,
    seed: bigOr(body.seed, seed),
  };
}
