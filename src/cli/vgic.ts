// Owns: `tidemark vgic`: what is pending and active in a VM's interrupt controller. CLI process.
import type { Operations } from "../generated/client.js";
import type { Client } from "./client.js";
import { table } from "./table.js";

type Page = Operations["listVgicInterrupts"]["answer"];
type Irq = Page["items"][number];

const COLUMNS = ["INTID", "KIND", "STATE", "CONFIG", "ENABLED", "PRIORITY", "TARGET", "QUEUED ON"];
const PAGE = "1000";

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

const on = (vcpu: number | null) => (vcpu === null ? "-" : `vCPU ${vcpu}`);

/** The controller in a line, then a line for each interrupt that is pending or active. */
export async function showVgic(client: Client, vm: string): Promise<string> {
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
