// Owns: a GICv5 decoded, and its SPIs. HTTP thread.
import { hex } from "../../base/hex.js";
import type { ApiDeps } from "../deps.js";
import { json, type Operation, operation, withHeaders } from "../operation.js";
import { LIMIT_DEFAULT, VmParams } from "../schemas/common.schema.js";
import { SPI_ID_MAX, VgicV5, VgicV5SpiPage, VgicV5SpiQuery } from "../schemas/vgic-v5.schema.js";
import type { ResultOf } from "../services.js";
import { cursorKey, NEXT_LINK, pageOfList, sendPage } from "../support.js";

const path = "/v1/vms/{vm}/vgic/v5";

function viewJson({ irs, cpuInterfaces, ...view }: ResultOf<"describeVgicV5">) {
  const { base, cr1, ist, ...rest } = irs;
  return {
    ...view,
    irs: {
      ...rest,
      base: base === null ? null : hex(base),
      cr1: hex(cr1),
      ist: { ...ist, baser: hex(ist.baser), cfgr: hex(ist.cfgr), address: hex(ist.address) },
    },
    cpuInterfaces: cpuInterfaces.map((cpu) => ({
      ...cpu,
      cr0: hex(cpu.cr0),
      apr: hex(cpu.apr),
      icsr: hex(cpu.icsr),
    })),
  };
}

const spiJson = ({ intid, iste, ...spi }: ResultOf<"listVgicV5Spis">[number]) => ({
  ...spi,
  intid: hex(intid),
  iste: iste === null ? null : { ...iste, raw: hex(iste.raw) },
});

export function vgicV5Operations({ services }: ApiDeps): readonly Operation[] {
  const { vms } = services;
  const at = { tag: "irq", scope: "vm:read" } as const;
  return [
    operation({
      ...at,
      id: "getVgicV5",
      method: "GET",
      path,
      summary: "Read a GICv5",
      description:
        "The IRS, each vCPU's CPU interface, SPIs in flight and what their tracking has counted. " +
        "A look: nothing is changed by it. 404 where the controller is another one.",
      params: VmParams,
      answers: { 200: json("The controller.", VgicV5) },
      problems: ["vm-not-found", "vgic-not-found", "vm-not-active"],
      handle: async ({ params }) =>
        viewJson((await vms.command(params.vm, "describeVgicV5", {})).value),
    }),
    operation({
      ...at,
      id: "listVgicV5Spis",
      method: "GET",
      path: `${path}/spis`,
      summary: "List SPIs of a GICv5",
      description:
        "Each SPI as KVM keeps it, and its entry of the interrupt state table, which is what the " +
        "hardware works on: the two may differ, which is what SPI tracking is about.",
      params: VmParams,
      query: VgicV5SpiQuery,
      answers: { 200: withHeaders(json("One page.", VgicV5SpiPage), NEXT_LINK) },
      problems: ["vm-not-found", "vgic-not-found", "vm-not-active", "cursor-invalid"],
      handle: async (call) => {
        const { query, params } = call;
        const { value } = await vms.command(params.vm, "listVgicV5Spis", {
          from: query.from ?? 0,
          to: query.to ?? SPI_ID_MAX,
          state: query.state ?? null,
          after: query.cursor === undefined ? null : cursorKey(query.cursor),
          // One more tells whether there is another page.
          limit: (query.limit ?? LIMIT_DEFAULT) + 1,
        });
        const page = pageOfList(value, query, ({ id }) => BigInt(id));
        return sendPage(call, page, spiJson);
      },
    }),
  ];
}
