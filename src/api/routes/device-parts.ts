// Owns: what an interrupt controller's attributes hold, by name: addresses, number of interrupts,
// registers. HTTP thread.
import type { Static } from "typebox";
import { KvmError } from "../../base/errors.js";
import { hex } from "../../base/hex.js";
import { invalid } from "../content.js";
import type { ApiDeps } from "../deps.js";
import { empty, json, type Operation, operation } from "../operation.js";
import {
  type ADDRESS_KINDS,
  DeviceAddress,
  DeviceAddressParams,
  DeviceAddressQuery,
  DeviceAddressSet,
  DeviceParams,
  DeviceRegister,
  DeviceRegisterQuery,
  DeviceRegistersSet,
  DeviceRegistersWritten,
  NrIrqs,
  type REGISTER_KINDS,
} from "../schemas/devices.schema.js";
import type { ArgsOf } from "../services.js";
import { big } from "../support.js";

/** KVM_DEV_ARM_VGIC_GRP_*. @source asm/kvm.h */
const GROUP_ADDR = 0;
const GROUP_NR_IRQS = 3;
/** KVM_VGIC_V*_ADDR_TYPE_*. */
const ADDRESS_ATTR: Readonly<Record<(typeof ADDRESS_KINDS)[number], bigint>> = {
  "v2-dist": 0n,
  "v2-cpu": 1n,
  "v3-dist": 2n,
  "v3-redist": 3n,
  its: 4n,
  "v3-redist-region": 5n,
  "v5-irs": 6n,
};
/** Group of each kind of register, and its bytes. */
const REGISTERS: Readonly<Record<(typeof REGISTER_KINDS)[number], readonly [number, number]>> = {
  dist: [1, 4],
  cpu: [2, 4],
  redist: [5, 4],
  sysreg: [6, 8],
  level: [7, 4],
  its: [8, 8],
  irs: [10, 8],
};
const MPIDR_SHIFT = 32n;
/** VGIC_ADDR_UNDEF. */
const UNSET = 0xffff_ffff_ffff_ffffn;
/** count[63:52] base[51:16] flags[15:12] index[11:0]. */
const REGION = {
  COUNT_SHIFT: 52n,
  FLAGS_SHIFT: 12n, // tidy: a field
  BASE: 0x000f_ffff_ffff_0000n,
  INDEX: 0xfffn, // tidy: a field
  FLAGS: 15n,
} as const;

const path = "/v1/vms/{vm}/devices/{device}";
const problems = ["vm-not-found", "device-not-found", "vm-not-active", "kvm-errno"] as const;

function littleEndian(value: bigint, bytes: number): Uint8Array {
  return Uint8Array.from({ length: bytes }, (_, i) => Number((value >> BigInt(8 * i)) & 0xffn));
}

function numberOf(bytes: Uint8Array, length: number): bigint {
  let value = 0n;
  for (const [i, byte] of bytes.subarray(0, length).entries())
    value |= BigInt(byte) << BigInt(8 * i);
  return value;
}

/** KVM packs a region of redistributors into one word, where a wrong address would be flags. */
function addressValue(kind: string, body: Static<typeof DeviceAddressSet>): bigint {
  const address = big(body.address);
  if (kind !== "v3-redist-region") return address;
  if ((address & ~REGION.BASE) !== 0n) {
    throw invalid("/address", "must be a multiple of 0x10000 below 2^52");
  }
  const { count = 0, flags = 0, index = 0 } = body;
  const low = (BigInt(flags) << REGION.FLAGS_SHIFT) | BigInt(index);
  return (BigInt(count) << REGION.COUNT_SHIFT) | address | low;
}

function addressView(kind: string, value: bigint): Static<typeof DeviceAddress> {
  if (kind !== "v3-redist-region") return { address: value === UNSET ? null : hex(value) };
  return {
    address: hex(value & REGION.BASE),
    count: Number(value >> REGION.COUNT_SHIFT),
    flags: Number((value >> REGION.FLAGS_SHIFT) & REGION.FLAGS),
    index: Number(value & REGION.INDEX),
  };
}

function addresses({ services }: ApiDeps): readonly Operation[] {
  const { vms } = services;
  const at = {
    path: `${path}/addresses/{kind}`,
    tag: "devices",
    params: DeviceAddressParams,
    /** The frame is what the path names: the device has none of that kind. */
    errnoStatus: { ENXIO: 404, ENODEV: 404 },
  } as const;
  return [
    operation({
      ...at,
      id: "getDeviceAddress",
      method: "GET",
      scope: "vm:read",
      summary: "Read where a frame of a device is",
      description: "KVM_GET_DEVICE_ATTR of group ADDR; ENOENT for a region that there isn't.",
      query: DeviceAddressQuery,
      answers: { 200: json("The address.", DeviceAddress) },
      problems,
      handle: async ({ params, query }) => {
        const where = { device: params.device, group: GROUP_ADDR, attr: ADDRESS_ATTR[params.kind] };
        const value = littleEndian(BigInt(query.index ?? 0), 8);
        const got = await vms.command(params.vm, "getDeviceAttr", { ...where, value });
        return addressView(params.kind, numberOf(got.value, 8));
      },
    }),
    operation({
      ...at,
      id: "setDeviceAddress",
      method: "PUT",
      scope: "vm:write",
      summary: "Place a frame of a device",
      description:
        "KVM_SET_DEVICE_ATTR of group ADDR: once per frame, before a vCPU runs. Regions of " +
        "redistributors come in order of their indexes, each with its count.",
      body: DeviceAddressSet,
      answers: { 204: empty("Placed.") },
      problems: [...problems, "owned-by-board"],
      handle: async ({ params, body, reply }) => {
        const where = { device: params.device, group: GROUP_ADDR, attr: ADDRESS_ATTR[params.kind] };
        const value = littleEndian(addressValue(params.kind, body), 8);
        await vms.command(params.vm, "setDeviceAttr", { ...where, value });
        return reply.code(204).send();
      },
    }),
  ];
}

function nrIrqs({ services }: ApiDeps): readonly Operation[] {
  const { vms } = services;
  const at = { path: `${path}/nr-irqs`, tag: "devices", params: DeviceParams } as const;
  return [
    operation({
      ...at,
      id: "getDeviceNrIrqs",
      method: "GET",
      scope: "vm:read",
      summary: "Read how many interrupts a controller has",
      description: "KVM_GET_DEVICE_ATTR of group NR_IRQS.",
      answers: { 200: json("The number.", NrIrqs) },
      problems,
      errnoStatus: { ENXIO: 404 },
      handle: async ({ params }) => {
        const where = { device: params.device, group: GROUP_NR_IRQS, attr: 0n };
        const value = new Uint8Array(4);
        const got = await vms.command(params.vm, "getDeviceAttr", { ...where, value });
        return { nrIrqs: Number(numberOf(got.value, 4)) };
      },
    }),
    operation({
      ...at,
      id: "setDeviceNrIrqs",
      method: "PUT",
      scope: "vm:write",
      summary: "Set how many interrupts a controller has",
      description:
        "KVM_SET_DEVICE_ATTR of group NR_IRQS: once, before the controller is initialised.",
      body: NrIrqs,
      answers: { 204: empty("Set.") },
      problems: [...problems, "owned-by-board"],
      errnoStatus: { ENXIO: 404 },
      handle: async ({ params, body, reply }) => {
        const where = { device: params.device, group: GROUP_NR_IRQS, attr: 0n };
        const value = littleEndian(BigInt(body.nrIrqs), 4);
        await vms.command(params.vm, "setDeviceAttr", { ...where, value });
        return reply.code(204).send();
      },
    }),
  ];
}

/** Where a register lies, and the zeros that a read of it starts from. */
function registerArgs(
  device: number,
  { kind, mpidr = 0, offset }: Static<typeof DeviceRegisterQuery>,
): ArgsOf<"getDeviceAttr"> {
  const [group, bytes] = REGISTERS[kind];
  const attr = (BigInt(mpidr) << MPIDR_SHIFT) | BigInt(offset);
  return { device, group, attr, value: new Uint8Array(bytes) };
}

function registers({ services }: ApiDeps): readonly Operation[] {
  const { vms } = services;
  const at = { path: `${path}/registers`, tag: "devices", params: DeviceParams } as const;
  return [
    operation({
      ...at,
      id: "getDeviceRegister",
      method: "GET",
      scope: "vm:read",
      summary: "Read a register of a device",
      description:
        "KVM_GET_DEVICE_ATTR of the group of that kind: userspace's view, which for pending and " +
        "active state is not the guest's. EBUSY while a vCPU runs.",
      query: DeviceRegisterQuery,
      answers: { 200: json("The register.", DeviceRegister) },
      problems,
      handle: async ({ params, query }) => {
        const args = registerArgs(params.device, query);
        const got = await vms.command(params.vm, "getDeviceAttr", args);
        const value = hex(numberOf(got.value, args.value.length));
        return { kind: query.kind, mpidr: query.mpidr ?? 0, offset: query.offset, value };
      },
    }),
    operation({
      ...at,
      id: "patchDeviceRegisters",
      method: "PATCH",
      scope: "vm:write",
      summary: "Write registers of a device",
      description:
        "KVM_SET_DEVICE_ATTR for each, in order, up to the first that KVM refuses: what was " +
        "written before it stays written.",
      body: DeviceRegistersSet,
      answers: { 200: json("How far it came.", DeviceRegistersWritten) },
      problems: [...problems, "owned-by-board"],
      handle: async ({ params, body }) => {
        for (const [index, { value, ...register }] of body.registers.entries()) {
          const args = registerArgs(params.device, register);
          const bytes = littleEndian(
            fitting(big(value), args.value.length, index),
            args.value.length,
          );
          try {
            await vms.command(params.vm, "setDeviceAttr", { ...args, value: bytes });
          } catch (error) {
            if (!(error instanceof KvmError)) throw error;
            const refused = { index, errno: error.errno, detail: error.message };
            return { written: index, refused };
          }
        }
        return { written: body.registers.length, refused: null };
      },
    }),
  ];
}

function fitting(value: bigint, bytes: number, index: number): bigint {
  if (value >> BigInt(8 * bytes) === 0n) return value;
  throw invalid(`/registers/${index}/value`, `must fit ${8 * bytes} bits`);
}

export function devicePartOperations(deps: ApiDeps): readonly Operation[] {
  return [...addresses(deps), ...nrIrqs(deps), ...registers(deps)];
}
