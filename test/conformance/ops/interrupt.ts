// Owns: routing, MSI and device calls of a recording as requests. Any thread.
import { isOk, jsonOf, plainOutcome, refusal, success } from "../client.js";
import { type Line, nameArg, numberArg, type Outcome, ReplayFault, wideArg } from "../line.js";
import { recordedName, type World } from "../world.js";

const TYPE_IRQCHIP = 1;
const TYPE_MSI = 2;
const DEVICE_TEST = 1;
/** One more than any table may have; a larger refused count is sent as this many entries. */
const ENTRIES_SENT_MAX = 4097;

/** KVM_SET_GSI_ROUTING; the count over HTTP is the list's length. */
export async function setGsiRouting(world: World, line: Line): Promise<Outcome> {
  const nr = Math.min(numberArg(line, "nr"), ENTRIES_SENT_MAX);
  const recorded = (line.args["entries"] ?? []) as readonly Record<string, unknown>[];
  const pattern = (line.args["entries_generated"] ?? {}) as Record<string, unknown>;
  const entries = Array.from({ length: nr }, (_, gsi) =>
    routingEntry(recorded[gsi] ?? { type: TYPE_MSI, flags: 0, ...pattern, gsi }),
  );
  const path = `${world.vm(line.on).path}/gsi-routing`;
  const json = { flags: numberArg(line, "flags"), entries };
  return plainOutcome(await world.client.send("PUT", path, { json }));
}

function routingEntry(entry: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const { gsi, type, flags } = entry;
  if (type === TYPE_IRQCHIP) {
    return { gsi, type, flags, irqchip: entry["irqchip"], pin: entry["pin"] };
  }
  if (type !== TYPE_MSI) return { gsi, type, flags };
  return {
    gsi,
    type,
    flags,
    addressLo: Number(entry["address_lo"] ?? 0),
    addressHi: Number(entry["address_hi"] ?? 0),
    data: Number(entry["data"] ?? 0),
    devid: Number(entry["devid"] ?? 0),
  };
}

export async function signalMsi(world: World, line: Line): Promise<Outcome> {
  const answer = await world.client.send("POST", `${world.vm(line.on).path}/msis`, {
    json: {
      addressLo: Number(wideArg(line, "address_lo")),
      addressHi: Number(wideArg(line, "address_hi")),
      data: Number(wideArg(line, "data")),
      flags: numberArg(line, "flags"),
    },
  });
  return isOk(answer) ? success({}, Number(jsonOf(answer)["delivered"])) : refusal(answer);
}

export async function createDevice(world: World, line: Line): Promise<Outcome> {
  const vm = world.vm(line.on);
  const isTest = (numberArg(line, "flags") & DEVICE_TEST) !== 0;
  const answer = await world.client.send("POST", `${vm.path}/devices`, {
    json: { type: numberArg(line, "type"), test: isTest },
  });
  if (!isOk(answer)) return refusal(answer);
  if (isTest) return success();
  const name = recordedName(line, "dev0");
  const path = `${vm.path}/devices/${String(jsonOf(answer)["device"])}`;
  world.devices.set(name, { vm, path });
  return success({ name });
}

const ATTR_METHODS: Readonly<Record<string, string>> = {
  KVM_HAS_DEVICE_ATTR: "HEAD",
  KVM_GET_DEVICE_ATTR: "GET",
  KVM_SET_DEVICE_ATTR: "PUT",
};
/** "points at int32 -1", the only thing that a recorded address may say. */
const POINTEE = { text: "points at int32 -1", bytes: "ffffffff" } as const;

/** KVM_HAS_, GET_ and SET_DEVICE_ATTR; `flags` go nowhere, as in KVM. */
export async function deviceAttr(world: World, line: Line): Promise<Outcome> {
  const { path } = world.device(line.on);
  const addr = nameArg(line, "addr");
  if (addr !== POINTEE.text) throw new ReplayFault(`unknown address: ${addr}`);
  const method = ATTR_METHODS[line.op] ?? "";
  const at = `${path}/attributes/${numberArg(line, "group")}/${wideArg(line, "attr")}`;
  if (method === "PUT") {
    const json = { value: POINTEE.bytes };
    return plainOutcome(await world.client.send(method, at, { json }));
  }
  const query = method === "GET" ? `?input=${POINTEE.bytes}` : "";
  return plainOutcome(await world.client.send(method, `${at}${query}`));
}
