// Owns: in-kernel devices: create, list, close, attributes by number, operations. HTTP thread.
import { ServiceError } from "../../base/errors.js";
import { bytesHex, JSON_TYPE, negotiate, OCTETS, sendBytes } from "../content.js";
import type { ApiDeps } from "../deps.js";
import { empty, json, type Operation, operation, withHeaders } from "../operation.js";
import { PageQuery, VmParams } from "../schemas/common.schema.js";
import {
  DEVICE_ATTRIBUTE_BYTES,
  type DEVICE_NAMES,
  type DEVICE_OPERATIONS,
  Device,
  DeviceAttribute,
  DeviceAttributeBytes,
  DeviceAttributeParams,
  DeviceAttributeQuery,
  DeviceCreate,
  DeviceOperation,
  DevicePage,
  DeviceParams,
  DeviceTest,
} from "../schemas/devices.schema.js";
import { big, created, LOCATION, NEXT_LINK, pageOfList, sendPage } from "../support.js";
import { vmPath } from "../views/vm.js";

/** enum kvm_device_type. @source linux/kvm.h */
const DEVICE_TYPES: Readonly<Record<(typeof DEVICE_NAMES)[number], number>> = {
  KVM_DEV_TYPE_VFIO: 4,
  KVM_DEV_TYPE_ARM_VGIC_V2: 5,
  KVM_DEV_TYPE_ARM_VGIC_V3: 7,
  KVM_DEV_TYPE_ARM_VGIC_ITS: 8,
  KVM_DEV_TYPE_ARM_VGIC_V5: 16,
};
/** KVM_CREATE_DEVICE_TEST. @source linux/kvm.h */
const TEST = 1;
/** KVM_DEV_ARM_VGIC_GRP_CTRL and its attributes. @source asm/kvm.h */
const GROUP_CTRL = 4;
const CTRL: Readonly<Record<(typeof DEVICE_OPERATIONS)[number], bigint>> = {
  init: 0n,
  saveTables: 1n,
  restoreTables: 2n,
  savePendingTables: 3n,
  reset: 4n,
};
/** What lies at the address of an attribute that is read, unless told otherwise. */
const INPUT_BYTES = 8;

const path = "/v1/vms/{vm}/devices";
const problems = ["vm-not-found", "device-not-found", "vm-not-active", "kvm-errno"] as const;

function nameOf(type: number): string | null {
  return Object.entries(DEVICE_TYPES).find(([, number]) => number === type)?.[0] ?? null;
}

const deviceView = ({ device, type }: { device: number; type: number }) => ({
  device,
  type,
  name: nameOf(type),
});

function collection({ services }: ApiDeps): readonly Operation[] {
  const { vms } = services;
  const at = { path, tag: "devices", params: VmParams } as const;
  return [
    operation({
      ...at,
      id: "createDevice",
      method: "POST",
      scope: "vm:write",
      summary: "Create an in-kernel device",
      description: "KVM_CREATE_DEVICE; ENODEV for a type that this host does not offer.",
      body: DeviceCreate,
      answers: {
        200: json("With `test`: the type is offered.", DeviceTest),
        201: withHeaders(json("It.", Device), LOCATION),
      },
      problems: ["vm-not-found", "vm-not-active", "owned-by-board", "kvm-errno"],
      handle: async ({ params, body, reply }) => {
        const type = typeof body.type === "number" ? body.type : DEVICE_TYPES[body.type];
        const flags = body.test === true ? TEST : 0;
        const { value } = await vms.command(params.vm, "createDevice", { type, flags });
        if (value === null) return { type, name: nameOf(type), test: true };
        const location = `${vmPath(params.vm)}/devices/${value}`;
        return created(reply, location).send(deviceView({ device: value, type }));
      },
    }),
    operation({
      ...at,
      id: "listDevices",
      method: "GET",
      scope: "vm:read",
      summary: "List in-kernel devices",
      description: "In the order of their creation. What KVM_CREATE_IRQCHIP made is none.",
      query: PageQuery,
      answers: { 200: withHeaders(json("One page.", DevicePage), NEXT_LINK) },
      problems: ["vm-not-found", "vm-not-active", "cursor-invalid"],
      handle: async (call) => {
        const { value } = await vms.command(call.params.vm, "listDevices", {});
        const page = pageOfList(value, call.query, ({ device }) => BigInt(device));
        return sendPage(call, page, deviceView);
      },
    }),
  ];
}

function one({ services }: ApiDeps): readonly Operation[] {
  const { vms } = services;
  const at = { path: `${path}/{device}`, tag: "devices", params: DeviceParams } as const;
  return [
    operation({
      ...at,
      id: "getDevice",
      method: "GET",
      scope: "vm:read",
      summary: "Read an in-kernel device",
      description: "Its type; what it holds is in its attributes.",
      answers: { 200: json("The device.", Device) },
      problems: ["vm-not-found", "device-not-found", "vm-not-active"],
      handle: async ({ params }) => {
        const { device } = params;
        return deviceView((await vms.command(params.vm, "describeDevice", { device })).value);
      },
    }),
    operation({
      ...at,
      id: "closeDevice",
      method: "DELETE",
      scope: "vm:write",
      summary: "Close an in-kernel device",
      description:
        "close() of its descriptor. A KVM-VFIO device goes away; an interrupt controller or ITS " +
        "stays as long as its VM, so that is 405.",
      answers: { 204: empty("It is gone.") },
      problems: ["vm-not-found", "device-not-found", "vm-not-active", "no-such-operation"],
      handle: async ({ params, reply }) => {
        const { device } = params;
        await vms.command(params.vm, "closeDevice", { device }).catch((error: unknown) => {
          if (!(error instanceof ServiceError) || error.code !== "device-stays") throw error;
          throw new ServiceError("no-such-operation", error.message, { allow: ["GET", "HEAD"] });
        });
        return reply.code(204).send();
      },
    }),
    operation({
      ...at,
      id: "createDeviceOperation",
      method: "POST",
      path: `${path}/{device}/operations`,
      scope: "vm:write",
      summary: "Initialise, save, restore or reset a device",
      description:
        "KVM_SET_DEVICE_ATTR of group CTRL, if the device has the attribute. EBUSY while a vCPU " +
        "runs, where all have to be idle.",
      body: DeviceOperation,
      answers: { 200: json("Done.", DeviceOperation) },
      problems: [...problems, "owned-by-board"],
      handle: async ({ params, body }) => {
        const where = { device: params.device, group: GROUP_CTRL, attr: CTRL[body.op] };
        // An ITS takes what it does not know for done.
        await vms.command(params.vm, "hasDeviceAttr", where);
        await vms.command(params.vm, "setDeviceAttr", { ...where, value: new Uint8Array(0) });
        return body;
      },
    }),
  ];
}

function attributes({ services }: ApiDeps): readonly Operation[] {
  const { vms } = services;
  const at = {
    path: `${path}/{device}/attributes/{group}/{attr}`,
    tag: "devices",
    params: DeviceAttributeParams,
    /** The attribute is what the path names. */
    errnoStatus: { ENXIO: 404 },
  } as const;
  return [
    operation({
      ...at,
      id: "getDeviceAttribute",
      method: "GET",
      scope: "vm:read",
      summary: "Read a device attribute",
      description:
        "KVM_GET_DEVICE_ATTR. HEAD is KVM_HAS_DEVICE_ATTR: 200, or KVM's refusal where there is " +
        "none; its errno is in the header `errno`, too.",
      query: DeviceAttributeQuery,
      answers: {
        200: {
          description: "The attribute.",
          content: {
            [JSON_TYPE]: { schema: DeviceAttribute },
            [OCTETS]: { schema: DeviceAttributeBytes },
          },
        },
      },
      problems: [...problems, "not-acceptable"],
      handle: async ({ params, query, request, reply }) => {
        const where = { device: params.device, group: params.group, attr: big(params.attr) };
        const type = negotiate(request, [JSON_TYPE, OCTETS]);
        if (request.method === "HEAD") {
          await vms.command(params.vm, "hasDeviceAttr", where);
          return { value: "" };
        }
        const given = query.input === undefined ? null : Buffer.from(query.input, "hex");
        const value = given === null ? new Uint8Array(INPUT_BYTES) : Uint8Array.from(given);
        const got = await vms.command(params.vm, "getDeviceAttr", { ...where, value });
        return type === OCTETS ? sendBytes(reply, got.value) : { value: bytesHex(got.value) };
      },
    }),
    operation({
      ...at,
      id: "setDeviceAttribute",
      method: "PUT",
      scope: "vm:write",
      summary: "Set a device attribute",
      description: "KVM_SET_DEVICE_ATTR with the bytes at the attribute's address.",
      body: DeviceAttribute,
      octets: { schema: DeviceAttributeBytes, limit: DEVICE_ATTRIBUTE_BYTES },
      answers: { 204: empty("Set.") },
      problems: [...problems, "owned-by-board"],
      handle: async ({ params, body, reply }) => {
        const value = isBytes(body) ? body : Uint8Array.from(Buffer.from(body.value, "hex"));
        const where = { device: params.device, group: params.group, attr: big(params.attr) };
        await vms.command(params.vm, "setDeviceAttr", { ...where, value });
        return reply.code(204).send();
      },
    }),
  ];
}

function isBytes(body: unknown): body is Uint8Array {
  return body instanceof Uint8Array;
}

export function deviceOperations(deps: ApiDeps): readonly Operation[] {
  return [...collection(deps), ...one(deps), ...attributes(deps)];
}
