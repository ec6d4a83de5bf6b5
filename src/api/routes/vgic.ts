// Owns: the interrupt controller as a whole: the legacy ioctls that make it, and its decoded state.
// HTTP thread.
import { hex } from "../../base/hex.js";
import type { ApiDeps } from "../deps.js";
import { empty, json, type Operation, operation, withHeaders } from "../operation.js";
import { LIMIT_DEFAULT, VmParams } from "../schemas/common.schema.js";
import {
  Irqchip,
  IrqchipAddress,
  IrqchipAddressParams,
  IrqchipCreate,
} from "../schemas/devices.schema.js";
import { Vgic, VgicIrqPage, VgicIrqQuery } from "../schemas/vgic.schema.js";
import type { ResultOf } from "../services.js";
import { big, created, cursorKey, LOCATION, NEXT_LINK, pageOfList, sendPage } from "../support.js";
import { vmPath } from "../views/vm.js";

const INTID_MAX = 65_535;
/** KVM_VGIC_V2_ADDR_TYPE_*. @source asm/kvm.h */
const ADDRESS_TYPE = { dist: 0n, cpu: 1n } as const;

const inVm = (name: string) => `/v1/vms/{vm}/${name}`;

function irqchip({ services }: ApiDeps): readonly Operation[] {
  const { vms } = services;
  const problems = ["vm-not-found", "vm-not-active", "owned-by-board", "kvm-errno"] as const;
  return [
    operation({
      id: "createIrqchip",
      method: "PUT",
      path: inVm("irqchip"),
      tag: "devices",
      scope: "vm:write",
      summary: "Create the legacy vGICv2",
      description:
        "KVM_CREATE_IRQCHIP: a GICv2 without a device, so irqchip/addresses is all there is. " +
        "A second controller, of any kind, is EEXIST.",
      params: VmParams,
      body: IrqchipCreate,
      bodyOptional: true,
      answers: { 201: withHeaders(json("It.", Irqchip), LOCATION) },
      problems,
      handle: async ({ params, reply }) => {
        await vms.command(params.vm, "createIrqchip", {});
        return created(reply, `${vmPath(params.vm)}/vgic`).send({ model: "gic-v2" });
      },
    }),
    operation({
      id: "setIrqchipAddress",
      method: "PUT",
      path: inVm("irqchip/addresses/{kind}"),
      tag: "devices",
      scope: "vm:write",
      summary: "Place a frame of a vGICv2",
      description: "KVM_ARM_SET_DEVICE_ADDR; ENODEV without a vGICv2.",
      params: IrqchipAddressParams,
      body: IrqchipAddress,
      answers: { 204: empty("Placed.") },
      problems,
      handle: async ({ params, body, reply }) => {
        const args = { id: ADDRESS_TYPE[params.kind], addr: big(body.address) };
        await vms.command(params.vm, "setDeviceAddr", args);
        return reply.code(204).send();
      },
    }),
  ];
}

function vgicJson({ distributor, cpuInterfaces, ...view }: ResultOf<"describeVgic">) {
  const { base, cpuBase } = distributor;
  const address = (value: bigint | null) => (value === null ? null : hex(value));
  return {
    ...view,
    distributor: {
      ...distributor,
      base: address(base),
      cpuBase: address(cpuBase),
      propbaser: hex(distributor.propbaser),
    },
    redistributorRegions: view.redistributorRegions.map((region) => ({
      ...region,
      base: hex(region.base),
    })),
    cpuInterfaces: cpuInterfaces.map(({ redistributor, ...cpu }) => ({
      ...cpu,
      affinity: hex(cpu.affinity),
      vmcr: { ...cpu.vmcr, raw: hex(cpu.vmcr.raw) },
      ap0r0: hex(cpu.ap0r0),
      ap1r0: hex(cpu.ap1r0),
      redistributor:
        redistributor === null ? null : { ...redistributor, base: hex(redistributor.base) },
      pendbaser: hex(cpu.pendbaser),
    })),
  };
}

type Irq = ResultOf<"listVgicIrqs">[number];

const irqJson = ({ key: _key, ...irq }: Irq) => ({
  ...irq,
  targets: hex(irq.targets),
  mpidr: hex(irq.mpidr),
  source: hex(irq.source),
});

function views({ services }: ApiDeps): readonly Operation[] {
  const { vms } = services;
  return [
    operation({
      id: "getVgic",
      method: "GET",
      path: inVm("vgic"),
      tag: "irq",
      scope: "vm:read",
      summary: "Read the interrupt controller",
      description:
        "Distributor, redistributor regions and each vCPU's CPU interface, decoded beside raw " +
        "words. A look: nothing is initialised by it.",
      params: VmParams,
      answers: { 200: json("The controller.", Vgic) },
      problems: ["vm-not-found", "vgic-not-found", "vm-not-active"],
      handle: async ({ params }) =>
        vgicJson((await vms.command(params.vm, "describeVgic", {})).value),
    }),
    operation({
      id: "listVgicInterrupts",
      method: "GET",
      path: inVm("vgic/interrupts"),
      tag: "irq",
      scope: "vm:read",
      summary: "List interrupts of the controller",
      description:
        "Every SGI, PPI, SPI and mapped LPI with all that KVM keeps of it, by INTID. A running " +
        "vCPU's list registers are folded back before a look.",
      params: VmParams,
      query: VgicIrqQuery,
      answers: { 200: withHeaders(json("One page.", VgicIrqPage), NEXT_LINK) },
      problems: ["vm-not-found", "vgic-not-found", "vm-not-active", "cursor-invalid"],
      handle: async (call) => {
        const { query, params } = call;
        const { value } = await vms.command(params.vm, "listVgicIrqs", {
          from: query.from ?? 0,
          to: query.to ?? INTID_MAX,
          vcpu: query.vcpu ?? null,
          state: query.state ?? null,
          after: query.cursor === undefined ? null : cursorKey(query.cursor),
          // One more tells whether there is another page.
          limit: (query.limit ?? LIMIT_DEFAULT) + 1,
        });
        const page = pageOfList(value, query, ({ key }) => key);
        return sendPage(call, page, irqJson);
      },
    }),
  ];
}

export function vgicOperations(deps: ApiDeps): readonly Operation[] {
  return [...irqchip(deps), ...views(deps)];
}
