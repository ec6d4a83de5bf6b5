// Owns: every ioctl that does something on arm64, or may one day: number, state, route. Data only.
// "implemented" answers as KVM; "refused" always answers as KVM on a host without the hardware it
// needs; "501" is none of arm64's. Numbers are computed from direction, number and argument size as
// _IOC does, and compared with the shipped header by a test.
// @source include/uapi/linux/kvm.h, kvm-uapi.md 2

export type IoctlState = "implemented" | "refused" | "501";
export type Descriptor = "system" | "vm" | "vcpu" | "device";

export interface IoctlRow {
  readonly name: string;
  readonly fd: Descriptor;
  /** _IOC direction: "" none, "R" read, "W" write, "RW" both. */
  readonly dir: "" | "R" | "W" | "RW";
  readonly nr: number;
  /** Bytes of the argument structure. */
  readonly size: number;
  readonly state: IoctlState;
  /** Method and path, or null where the work is done by creating a resource. */
  readonly route: string | null;
  readonly summary: string;
}

const KVMIO = 0xae;

/** _IOC(dir, KVMIO, nr, size). */
export function ioctlCode(row: Pick<IoctlRow, "dir" | "nr" | "size">): number {
  const dir = { "": 0, W: 1, R: 2, RW: 3 }[row.dir];
  return ((dir << 30) | (row.size << 16) | (KVMIO << 8) | row.nr) >>> 0;
}

type Row = readonly [
  name: string,
  fd: Descriptor,
  dir: IoctlRow["dir"],
  nr: number,
  size: number,
  state: IoctlState,
  route: string | null,
  summary: string,
];

const VM = "/v1/vms/{vm}";
const DEVICE = `${VM}/devices/{device}`;
const VCPU = `${VM}/vcpus/{n}`;

const ROWS: readonly Row[] = [
  ["GET_API_VERSION", "system", "", 0x00, 0, "implemented", "GET /v1/host", "API version 12."],
  ["CREATE_VM", "system", "", 0x01, 0, "implemented", "POST /v1/vms", "A new VM."],
  ["CHECK_EXTENSION", "system", "", 0x03, 0, "implemented", "GET /v1/host/capabilities/{cap}", "Value of a capability."],
  ["GET_VCPU_MMAP_SIZE", "system", "", 0x04, 0, "implemented", "GET /v1/host", "Size of struct kvm_run and the coalesced ring."],
  ["CREATE_VCPU", "vm", "", 0x41, 0, "implemented", `PUT ${VCPU}`, "A new vCPU."],
  ["GET_DIRTY_LOG", "vm", "W", 0x42, 16, "implemented", `GET ${VM}/memslots/{slot}/dirty-log`, "Dirty bitmap of a slot."],
  ["SET_USER_MEMORY_REGION", "vm", "W", 0x46, 32, "implemented", `PUT ${VM}/memslots/{slot}`, "Create, change, move or delete a slot."],
  ["SET_USER_MEMORY_REGION2", "vm", "W", 0x49, 160, "implemented", `PUT ${VM}/memslots/{slot}`, "The same, with a guest_memfd."],
  ["CREATE_IRQCHIP", "vm", "", 0x60, 0, "implemented", `PUT ${VM}/irqchip`, "Legacy vGICv2."],
  ["IRQ_LINE", "vm", "W", 0x61, 8, "implemented", `PUT ${VM}/irq-lines/{line}`, "Level of an interrupt line."],
  ["REGISTER_COALESCED_MMIO", "vm", "W", 0x67, 16, "implemented", `POST ${VM}/coalesced-zones`, "Queue stores to a zone."],
  ["UNREGISTER_COALESCED_MMIO", "vm", "W", 0x68, 16, "implemented", `DELETE ${VM}/coalesced-zones`, "Stop queueing."],
  ["IRQ_LINE_STATUS", "vm", "RW", 0x67, 8, "implemented", `PUT ${VM}/irq-lines/{line}`, "IRQ_LINE that gives its structure back: ?status=true."],
  ["SET_GSI_ROUTING", "vm", "W", 0x6a, 8, "implemented", `PUT ${VM}/gsi-routing`, "Replace the routing table."],
  ["IRQFD", "vm", "W", 0x76, 32, "implemented", `POST ${VM}/irqfds`, "An eventfd that raises an interrupt."],
  ["IOEVENTFD", "vm", "W", 0x79, 64, "implemented", `POST ${VM}/ioeventfds`, "A store that signals an eventfd."],
  ["ENABLE_CAP", "vm", "W", 0xa3, 104, "implemented", `PUT ${VM}/capabilities/{cap}`, "Enable a capability."],
  ["SIGNAL_MSI", "vm", "W", 0xa5, 32, "implemented", `POST ${VM}/msis`, "Deliver an MSI."],
  ["ARM_SET_DEVICE_ADDR", "vm", "W", 0xab, 16, "implemented", `PUT ${VM}/irqchip/addresses/{kind}`, "Legacy vGICv2 address."],
  ["ARM_PREFERRED_TARGET", "vm", "R", 0xaf, 32, "implemented", `GET ${VM}/preferred-target`, "Target for VCPU_INIT."],
  ["ARM_MTE_COPY_TAGS", "vm", "R", 0xb4, 48, "refused", `GET ${VM}/mte-tags`, "Memory tags; EINVAL without MTE."],
  ["ARM_SET_COUNTER_OFFSET", "vm", "W", 0xb5, 16, "implemented", `PUT ${VM}/counter-offset`, "Offset of the guest's counters."],
  ["ARM_GET_REG_WRITABLE_MASKS", "vm", "R", 0xb6, 64, "implemented", `GET ${VM}/register-writable-masks/{range}`, "Writable bits of ID registers."],
  ["CLEAR_DIRTY_LOG", "vm", "RW", 0xc0, 24, "implemented", `POST ${VM}/memslots/{slot}/dirty-log/clears`, "Clear bits and protect again."],
  ["RESET_DIRTY_RINGS", "vm", "", 0xc7, 0, "implemented", `POST ${VM}/dirty-rings/resets`, "Take harvested entries back."],
  ["GET_STATS_FD", "vm", "", 0xce, 0, "implemented", `GET ${VM}/stats`, "Binary statistics."],
  ["SET_MEMORY_ATTRIBUTES", "vm", "W", 0xd2, 32, "501", `PUT ${VM}/memory-attributes`, "None on arm64."],
  ["CREATE_GUEST_MEMFD", "vm", "RW", 0xd4, 64, "implemented", `POST ${VM}/guest-memfds`, "Guest-private memory file."],
  ["CREATE_DEVICE", "vm", "RW", 0xe0, 12, "implemented", `POST ${VM}/devices`, "In-kernel device: vGIC, ITS, KVM-VFIO."],
  ["SET_DEVICE_ATTR", "device", "W", 0xe1, 24, "implemented", `PUT ${DEVICE}/attributes/{group}/{attr}`, "Set an attribute; also of a vCPU or a VM."],
  ["GET_DEVICE_ATTR", "device", "W", 0xe2, 24, "implemented", `GET ${DEVICE}/attributes/{group}/{attr}`, "Get an attribute."],
  ["HAS_DEVICE_ATTR", "device", "W", 0xe3, 24, "implemented", `HEAD ${DEVICE}/attributes/{group}/{attr}`, "Ask for an attribute."],
  ["RUN", "vcpu", "", 0x80, 0, "implemented", `POST ${VCPU}/runs`, "Run a vCPU until it exits."],
  ["SET_SIGNAL_MASK", "vcpu", "W", 0x8b, 4, "implemented", `PUT ${VCPU}/signal-mask`, "Signals that KVM_RUN blocks; kept, and a kick is none of them."],
  ["GET_MP_STATE", "vcpu", "R", 0x98, 4, "implemented", `GET ${VCPU}/mp-state`, "Power state of a vCPU."],
  ["SET_MP_STATE", "vcpu", "W", 0x99, 4, "implemented", `PUT ${VCPU}/mp-state`, "Set the power state."],
  ["SET_GUEST_DEBUG", "vcpu", "W", 0x9b, 520, "implemented", `PUT ${VCPU}/guest-debug`, "Debug a guest."],
  ["GET_VCPU_EVENTS", "vcpu", "R", 0x9f, 64, "implemented", `GET ${VCPU}/vcpu-events`, "Pending exceptions."],
  ["SET_VCPU_EVENTS", "vcpu", "W", 0xa0, 64, "implemented", `PUT ${VCPU}/vcpu-events`, "Inject exceptions."],
  ["GET_ONE_REG", "vcpu", "W", 0xab, 16, "implemented", `GET ${VCPU}/registers/{reg}`, "Read a register."],
  ["SET_ONE_REG", "vcpu", "W", 0xac, 16, "implemented", `PUT ${VCPU}/registers/{reg}`, "Write a register."],
  ["ARM_VCPU_INIT", "vcpu", "W", 0xae, 32, "implemented", `POST ${VCPU}/initializations`, "Initialise and reset; synthetic vCPUs need none."],
  ["GET_REG_LIST", "vcpu", "RW", 0xb0, 8, "implemented", `GET ${VCPU}/registers`, "Registers of a vCPU."],
  ["ARM_VCPU_FINALIZE", "vcpu", "W", 0xc2, 4, "refused", `POST ${VCPU}/finalizations`, "Finish a feature's set-up; EINVAL without SVE."],
  ["PRE_FAULT_MEMORY", "vcpu", "RW", 0xd5, 64, "501", `POST ${VCPU}/prefaults`, "Not on arm64."],
];

export const IOCTLS: readonly IoctlRow[] = ROWS.map((row) => ({
  name: `KVM_${row[0]}`,
  fd: row[1],
  dir: row[2],
  nr: row[3],
  size: row[4],
  state: row[5],
  route: row[6],
  summary: row[7],
}));
