// Owns: shapes of the host: facts, capabilities, ioctls. HTTP thread.
import Type from "typebox";
import { closed, count, nullable, text } from "./common.schema.js";

const capacity = Type.Object(
  {
    memoryBytes: count("Bytes of the process-wide memory budget.", 8589934592),
    vms: count("Active VMs.", 256),
  },
  { ...closed, $id: "HostCapacity" },
);

export const Host = Type.Object(
  {
    apiVersion: Type.Literal(12, { description: "KVM_GET_API_VERSION." }),
    pageSizes: Type.Array(Type.Integer(), {
      description: "Page sizes that a VM's host may have, bytes.",
      examples: [[4096, 16384, 65536]],
    }),
    vcpuMmapSize: Type.Integer({
      description: "KVM_GET_VCPU_MMAP_SIZE, bytes.",
      examples: [8192],
    }),
    ipaLimitBits: Type.Integer({
      description: "KVM_CAP_ARM_VM_IPA_SIZE: the largest guest-physical address space, bits.",
      examples: [48],
    }),
    capacity,
    allocatable: capacity,
    links: Type.Object(
      {
        capabilities: text("", "/v1/host/capabilities"),
        ioctls: text("", "/v1/host/ioctls"),
        vms: text("", "/v1/vms"),
        events: text("", "/v1/events"),
      },
      closed,
    ),
  },
  { ...closed, $id: "Host", description: "What this host is, and what is still free." },
);

export const Capability = Type.Object(
  {
    name: nullable(
      text("Name in linux/kvm.h; null for a number that has none here.", "KVM_CAP_NR_MEMSLOTS"),
    ),
    number: Type.Integer({ minimum: 0, examples: [10] }),
    value: Type.Integer({
      description: "KVM_CHECK_EXTENSION's answer; 0 means absent.",
      examples: [32767],
    }),
    summary: nullable(text("What it means.", "Memslots that a VM may have.")),
  },
  { ...closed, $id: "Capability" },
);

export const Capabilities = Type.Object(
  { items: Type.Array(Capability), nextCursor: Type.Null() },
  { ...closed, $id: "Capabilities", description: "Every capability that this host knows." },
);

export const Ioctl = Type.Object(
  {
    name: text("", "KVM_GET_DIRTY_LOG"),
    fd: text("Kind of descriptor that takes it.", "vm"),
    code: Type.Integer({ description: "Request number.", examples: [1074835010] }),
    state: Type.String({
      description: '"implemented"; "refused": refused as Linux on arm64 does; "501": not yet.',
      examples: ["implemented"],
    }),
    route: nullable(
      text("Operation that performs it.", "GET /v1/vms/{vm}/memslots/{slot}/dirty-log"),
    ),
    summary: text("", "Reads a slot's dirty bitmap."),
  },
  { ...closed, $id: "Ioctl" },
);

export const Ioctls = Type.Object(
  { items: Type.Array(Ioctl), nextCursor: Type.Null() },
  { ...closed, $id: "Ioctls", description: "All arm64 ioctls of KVM and their state." },
);

export const CapParams = Type.Object(
  {
    cap: Type.String({
      minLength: 1,
      maxLength: 64,
      description: "KVM_CAP_… or a decimal number.",
      examples: ["KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2"],
    }),
  },
  closed,
);
