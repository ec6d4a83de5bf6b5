// Owns: `tidemark vgic`: what is pending and active in a VM's interrupt controller. CLI process.
import type { Operations } from "../generated/client.js";
import { type Client, Refused } from "./client.js";
import { table } from "./table.js";

type Page = Operations["listVgicInterrupts"]["answer"];
type Irq = Page["items"][number];

const COLUMNS = ["INTID", "KIND", "STATE", "CONFIG", "ENABLED", "PRIORITY", "TARGET", "QUEUED ON"];
const PAGE = "1000";

type V5 = Operations["getVgicV5"]["answer"];
type SpiPage = Operations["listVgicV5Spis"]["answer"];
type Spi = SpiPage["items"][number];

const SPI_COLUMNS = [
  "SPI",
  "STATE",
  "CONFIG",
  "ENABLED",
  "PRIORITY",
  "TARGET",
  "ENTRY",
  "IN FLIGHT",
];

async function inState(client: Client, vm: string, state: string): Promise<readonly Irq[]> {
  const found: Irq[] = [];
  let cursor: string | null = null;
  do {
    const query: Record<string, string> = { state, limit: PAGE };
    if (cursor !== null) query["cursor"] = cursor;
    const page: Page = await client.call("listVgicInterrupts", { vm }, undefined, query);
    found.push(...page.items);
    cursor = page.nextCursor;
  } while (cursor !== null);
  return found;
}

async function spisIn(client: Client, vm: string, state: string): Promise<readonly Spi[]> {
  const query = { state, limit: PAGE };
  const found: Spi[] = [];
  let cursor: string | null = null;
  do {
    const more: Record<string, string> = cursor === null ? query : { ...query, cursor };
    const page: SpiPage = await client.call("listVgicV5Spis", { vm }, undefined, more);
    found.push(...page.items);
    cursor = page.nextCursor;
  } while (cursor !== null);
  return found;
}

/** @returns null: it is another controller, or there is none */
async function v5Of(client: Client, vm: string): Promise<V5 | null> {
  try {
    return await client.call("getVgicV5", { vm });
  } catch (error) {
    if (error instanceof Refused && error.problem === "vgic-not-found") return null;
    throw error;
  }
}

/** A GICv5 in a line, then a line for each SPI that is pending, active or in flight. */
async function showV5(client: Client, vm: string, { irs, tracking, ...gic }: V5): Promise<string> {
  const states = ["pending", "active", "listed"];
  const found = (await Promise.all(states.map((state) => spisIn(client, vm, state)))).flat();
  const spis = [...new Map(found.map((spi) => [spi.id, spi])).values()];
  spis.sort((a, b) => a.id - b.id);
  const rows = spis.map(({ id, state, config, iste, target, isListed }) => [
    String(id),
    state,
    config,
    iste === null ? "-" : iste.enabled ? "yes" : "no",
    iste === null ? "-" : `0x${iste.priority.toString(16).padStart(2, "0")}`,
    on(target),
    iste?.raw ?? "-",
    isListed ? "yes" : "no",
  ]);
  const ready = gic.isInitialized ? (irs.enabled ? "enabled" : "disabled") : "not initialised";
  const head = `GICv5, ${irs.nrSpis} SPIs, ${ready}, tracking ${tracking}\n`;
  const none = "No SPI is pending or active.\n";
  return head + (rows.length === 0 ? none : table([SPI_COLUMNS, ...rows]));
}

const on = (vcpu: number | null) => (vcpu === null ? "-" : `vCPU ${vcpu}`);

/** The controller in a line, then a line for each interrupt that is pending or active. */
export async function showVgic(client: Client, vm: string): Promise<string> {
  const v5 = await v5Of(client, vm);
  if (v5 !== null) return showV5(client, vm, v5);
  const { model, isInitialized, distributor } = await client.call("getVgic", { vm });
  const pending = await inState(client, vm, "pending");
  const active = await inState(client, vm, "active");
  const irqs = [...pending, ...active.filter(({ state }) => state === "active")];
  irqs.sort((a, b) => a.intid - b.intid || (a.vcpu ?? 0) - (b.vcpu ?? 0));
  const rows = irqs.map((irq) => [
    String(irq.intid),
    irq.vcpu === null ? irq.kind : `${irq.kind} of vCPU ${irq.vcpu}`,
    irq.state,
    irq.config,
    irq.enabled ? "yes" : "no",
    `0x${irq.priority.toString(16).padStart(2, "0")}`,
    on(irq.target),
    on(irq.list),
  ]);
  const enabled = distributor.enabled ? "enabled" : "disabled";
  const ready = isInitialized ? enabled : "not initialised";
  const head = `GIC${model}, ${distributor.nrIrqs} interrupts, ${ready}\n`;
  const found = rows.length === 0 ? "Nothing is pending or active.\n" : table([COLUMNS, ...rows]);
  return head + found;
}
