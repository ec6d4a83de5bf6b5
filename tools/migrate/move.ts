// Owns: one migration of a VM from host to host over HTTP, to its end. Tool and bench process.
import type { Client } from "../../dist/cli/client.js";
import type { Operations } from "../../dist/generated/client.js";

export type Migration = Operations["getMigration"]["answer"];
export type Asked = NonNullable<Operations["createMigration"]["body"]>;

const WAIT_S = "30";
export const ENDED: ReadonlySet<string> = new Set(["completed", "failed", "cancelled"]);

/**
 * @param begun told the session's id once there is one
 * @returns the source's session, ended
 */
export async function migrate(
  client: Client,
  asked: Asked,
  limitMs: number,
  begun: (id: string) => void = () => {},
): Promise<Migration> {
  const deadline = performance.now() + limitMs;
  let now = (await client.call("createMigration", {}, asked)) as Migration;
  begun(now.id);
  while (!ENDED.has(now.state)) {
    if (performance.now() > deadline) {
      throw new Error(`${now.id} is still ${now.state}: ${now.stateReason ?? "no reason"}`);
    }
    now = await client.call("getMigration", { migration: now.id }, undefined, { wait: WAIT_S });
  }
  return now;
}

/** @returns the id of the VM with a uuid that runs at a host */
export async function vmOf(client: Client, uuid: string): Promise<string> {
  const { items } = await client.call("listVms", {}, undefined, { limit: "1000" });
  const found = items.find((vm) => vm.uuid === uuid && vm.state === "active");
  if (found === undefined) throw new Error(`no active VM has the uuid ${uuid} there`);
  return found.id;
}
