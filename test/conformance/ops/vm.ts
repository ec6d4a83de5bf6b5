// Owns: system and VM calls of a recording as requests: creation, capabilities, memslots.
// Any thread.
import { isOk, jsonOf, plainOutcome, refusal, success } from "../client.js";
import { type Line, numberArg, type Outcome, ReplayFault, wideArg } from "../line.js";
import { hex, recordedName, type World } from "../world.js";

const CAP_MANUAL_DIRTY_LOG_PROTECT2 = 168;
const MEM_GUEST_MEMFD = 4;

export async function createVm(world: World, line: Line): Promise<Outcome> {
  const type = "arg" in line.args ? wideArg(line, "arg") : wideArg(line, "type");
  const name = String(line.args["name"] ?? recordedName(line, "vm0"));
  return plainOutcome(await world.createVm(name, type));
}

export async function closeVm(world: World, line: Line): Promise<Outcome> {
  const answer = await world.closeVm(String(line.args["name"] ?? line.on));
  if (answer === null) throw new ReplayFault("there is no such VM to close");
  return plainOutcome(answer);
}

/** KVM_GET_API_VERSION and KVM_GET_VCPU_MMAP_SIZE: members of the host's facts. */
export async function hostFact(world: World, line: Line): Promise<Outcome> {
  const answer = await world.client.send("GET", "/v1/host");
  if (!isOk(answer)) return refusal(answer);
  const name = line.op === "KVM_GET_API_VERSION" ? "apiVersion" : "vcpuMmapSize";
  return success({}, Number(jsonOf(answer)[name]));
}

export async function checkExtension(world: World, line: Line): Promise<Outcome> {
  const cap = "arg" in line.args ? Number(wideArg(line, "arg")) : numberArg(line, "nr");
  const base = line.on === "system" ? "/v1/host" : world.vm(line.on).path;
  const answer = await world.client.send("GET", `${base}/capabilities/${cap}`);
  return isOk(answer) ? success({}, Number(jsonOf(answer)["value"])) : refusal(answer);
}

export async function enableCap(world: World, line: Line): Promise<Outcome> {
  const vm = world.vm(line.on);
  const cap = numberArg(line, "nr");
  const args = line.args["args"] as readonly string[];
  const answer = await world.client.send("PUT", `${vm.path}/capabilities/${cap}`, {
    json: { flags: numberArg(line, "flags"), args },
  });
  // The client of a REST API knows its own mode; it decides how the log is read from now on.
  if (isOk(answer) && cap === CAP_MANUAL_DIRTY_LOG_PROTECT2) {
    vm.manualProtect = Number(BigInt(args[0] ?? "0x0"));
  }
  return plainOutcome(answer);
}

export async function createVcpu(world: World, line: Line): Promise<Outcome> {
  const vm = world.vm(line.on);
  const id = "arg" in line.args ? Number(wideArg(line, "arg")) : numberArg(line, "id");
  const path = `${vm.path}/vcpus/${id}`;
  const answer = await world.client.send("PUT", path, { json: {} });
  if (!isOk(answer)) return refusal(answer);
  const name = recordedName(line, vm.name === "vm0" ? `vcpu${id}` : `${vm.name}.vcpu${id}`);
  world.vcpus.set(name, { vm, path, list: null });
  return success({ name });
}

/** KVM_SET_USER_MEMORY_REGION and its wider form. */
export async function setMemslot(world: World, line: Line): Promise<Outcome> {
  const vm = world.vm(line.on);
  const isWide = line.op === "KVM_SET_USER_MEMORY_REGION2";
  const flags = numberArg(line, "flags");
  const json: Record<string, unknown> = {
    flags,
    guestPhysAddr: wideArg(line, "guest_phys_addr"),
    memorySize: wideArg(line, "memory_size"),
    userspaceAddr: wideArg(line, "userspace_addr"),
  };
  if (isWide) {
    json["region2"] = true;
    json["guestMemfdOffset"] = wideArg(line, "guest_memfd_offset");
    // Without its flag KVM looks at no descriptor, and a number has no meaning as an id.
    if ((flags & MEM_GUEST_MEMFD) !== 0) json["guestMemfdId"] = numberArg(line, "guest_memfd");
  }
  const path = `${vm.path}/memslots/${numberArg(line, "slot")}`;
  return plainOutcome(await world.client.send("PUT", path, { json }));
}

/** host_write and host_read: the test memory of the recorder's process. */
export async function hostAccess(world: World, line: Line): Promise<Outcome> {
  const offset = Number(BigInt(wideArg(line, "userspace_addr")) - world.header.hostBase);
  const length = numberArg(line, "len");
  if (offset < 0 || offset + length > Number(world.header.hostSize)) {
    throw new ReplayFault("the address is outside the header's host_memory");
  }
  if (line.op === "host_write") {
    const bytes = littleEndian(BigInt(wideArg(line, "value")), length);
    const answer = await world.hostWrite(offset, bytes);
    return answer === null ? success() : plainOutcome(answer);
  }
  const answer = await world.hostRead(offset, length);
  if (!isOk(answer)) return refusal(answer);
  return success({ value: hex(fromLittleEndian(answer.body)) });
}

/** Low `length` bytes of a value in memory order. */
export function littleEndian(value: bigint, length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, at) => Number((value >> BigInt(8 * at)) & 0xffn));
}

export function fromLittleEndian(bytes: Uint8Array): bigint {
  return bytes.reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n);
}
