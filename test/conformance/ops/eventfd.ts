// Owns: eventfds and the calls that take one, as requests. Any thread.
import { randomUUID } from "node:crypto";
import { isOk, jsonOf, plainOutcome, refusal, success } from "../client.js";
import { type Line, nameArg, numberArg, type Outcome, wideArg } from "../line.js";
import { hex, type World } from "../world.js";

const IRQFD_DEASSIGN = 1;
const IRQFD_KNOWN_FLAGS = 3;

export async function createEventfd(world: World, line: Line): Promise<Outcome> {
  const count = "initval" in line.args ? wideArg(line, "initval") : "0x0";
  const answer = await world.client.send("POST", "/v1/eventfds", { json: { count } });
  if (!isOk(answer)) return refusal(answer);
  const id = String(jsonOf(answer)["id"]);
  world.eventfds.set(nameArg(line, "name"), { id, lastRead: null });
  return success();
}

export async function writeEventfd(world: World, line: Line): Promise<Outcome> {
  const { id } = world.eventfd(nameArg(line, "fd"));
  const answer = await world.client.send("POST", `/v1/eventfds/${id}/writes`, {
    json: { value: wideArg(line, "value") },
  });
  return plainOutcome(answer);
}

/** eventfd_read: takes the count; the next read acknowledges this one. */
export async function readEventfd(world: World, line: Line): Promise<Outcome> {
  const eventfd = world.eventfd(nameArg(line, "fd"));
  const after = eventfd.lastRead === null ? "" : `?after=${eventfd.lastRead}`;
  const answer = await world.client.send("POST", `/v1/eventfds/${eventfd.id}/reads${after}`, {
    headers: after === "" ? { "idempotency-key": randomUUID() } : {},
  });
  if (!isOk(answer)) return refusal(answer);
  const read = jsonOf(answer);
  eventfd.lastRead = String(read["id"]);
  return success({ value: hex(BigInt(String(read["value"]))) });
}

/** close: the descriptor is gone; its symbol names the id that no longer exists. */
export async function closeDescriptor(world: World, line: Line): Promise<Outcome> {
  const { id } = world.eventfd(nameArg(line, "fd"));
  const answer = await world.client.send("DELETE", `/v1/eventfds/${id}`);
  if (isOk(answer)) world.eventfds.delete(nameArg(line, "fd"));
  return plainOutcome(answer);
}

export async function ioeventfd(world: World, line: Line): Promise<Outcome> {
  const vm = world.vm(line.on);
  const answer = await world.client.send("POST", `${vm.path}/ioeventfds`, {
    json: {
      eventfd: world.descriptorId(nameArg(line, "fd"), vm),
      addr: wideArg(line, "addr"),
      len: numberArg(line, "len"),
      datamatch: wideArg(line, "datamatch"),
      flags: numberArg(line, "flags"),
    },
  });
  return plainOutcome(answer);
}

export async function irqfd(world: World, line: Line): Promise<Outcome> {
  const vm = world.vm(line.on);
  const flags = numberArg(line, "flags");
  const eventfd = world.descriptorId(nameArg(line, "fd"), vm);
  const gsi = numberArg(line, "gsi");
  if ((flags & IRQFD_DEASSIGN) !== 0 && (flags & ~IRQFD_KNOWN_FLAGS) === 0) {
    const query = `eventfd=${eventfd}&gsi=${gsi}`;
    return plainOutcome(await world.client.send("DELETE", `${vm.path}/irqfds?${query}`));
  }
  const resample =
    "resamplefd" in line.args
      ? { resampleEventfd: world.descriptorId(nameArg(line, "resamplefd"), vm) }
      : {};
  const json = { eventfd, gsi, flags, ...resample };
  return plainOutcome(await world.client.send("POST", `${vm.path}/irqfds`, { json }));
}
