// Owns: `tidemark vm`: the VMs of a host, listed, shown, removed. CLI process.
import type { Client } from "./client.js";
import { table } from "./table.js";

const COLUMNS = ["ID", "STATE", "NAME", "IMAGE"] as const;

/** Every VM of the host, a line each. */
export async function listVms(client: Client): Promise<string> {
  const rows: (readonly string[])[] = [COLUMNS];
  let cursor: string | null = null;
  do {
    const query: Readonly<Record<string, string>> = cursor === null ? {} : { cursor };
    const page: Awaited<ReturnType<typeof client.call<"listVms">>> = await client.call(
      "listVms",
      {},
      undefined,
      query,
    );
    for (const { id, state, name, definition } of page.items) {
      rows.push([id, state, name ?? "-", definition.board?.image?.name ?? "-"]);
    }
    cursor = page.nextCursor;
  } while (cursor !== null);
  return table(rows);
}

/** One VM as the API has it. */
export async function showVm(client: Client, vm: string): Promise<string> {
  const record = await client.call("getVm", { vm });
  return `${JSON.stringify(record, null, 2)}\n`;
}

/** @returns the ids that were removed, a line each */
export async function removeVms(client: Client, vms: readonly string[]): Promise<string> {
  let said = "";
  for (const vm of vms) {
    await client.call("deleteVm", { vm });
    said += `${vm}\n`;
  }
  return said;
}
