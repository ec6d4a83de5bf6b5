// Owns: /v1/host: facts, capabilities, the state of every ioctl. HTTP thread.
import { ServiceError } from "../../base/errors.js";
import type { ApiDeps } from "../deps.js";
import { json, type Operation, operation } from "../operation.js";
import { Capabilities, Capability, CapParams, Host, Ioctls } from "../schemas/host.schema.js";
import type { HostService } from "../services.js";

/** Number of a capability named in a path. @throws ServiceError "capability-not-found" */
export function capabilityNumber(host: HostService, cap: string): number {
  const number = host.capabilityNumber(cap);
  if (number !== null) return number;
  throw new ServiceError(
    "capability-not-found",
    `${cap} is neither KVM_CAP_… of this host nor a decimal u32.`,
  );
}

/** A capability with the value of a descriptor; a number without a row has no name. */
export function capabilityView(host: HostService, number: number, value: number) {
  const row = host.capabilities().find((known) => known.number === number);
  return { name: row?.name ?? null, number, value, summary: row?.summary ?? null };
}

export function hostOperations({ services }: ApiDeps): readonly Operation[] {
  const { host } = services;
  const common = { tag: "host", scope: "host:read", method: "GET" } as const;
  return [
    operation({
      ...common,
      id: "getHost",
      path: "/v1/host",
      summary: "What this host is and what is free",
      description: "KVM_GET_API_VERSION, KVM_GET_VCPU_MMAP_SIZE, limits, and the memory budget.",
      answers: { 200: json("The host.", Host) },
      handle: () => ({
        ...host.facts(),
        links: {
          capabilities: "/v1/host/capabilities",
          ioctls: "/v1/host/ioctls",
          vms: "/v1/vms",
          events: "/v1/events",
        },
      }),
    }),
    operation({
      ...common,
      id: "listHostCapabilities",
      path: "/v1/host/capabilities",
      summary: "List capabilities",
      description: "KVM_CHECK_EXTENSION on the system descriptor, for every capability known here.",
      answers: { 200: json("All capabilities.", Capabilities) },
      handle: () => ({ items: host.capabilities(), nextCursor: null }),
    }),
    operation({
      ...common,
      id: "getHostCapability",
      path: "/v1/host/capabilities/{cap}",
      summary: "Check one capability of the host",
      description:
        "KVM_CHECK_EXTENSION on the system descriptor. An unknown number reads 0, as in KVM.",
      params: CapParams,
      answers: { 200: json("The capability.", Capability) },
      problems: ["capability-not-found", "kvm-errno"],
      handle: ({ params }) => {
        const number = capabilityNumber(host, params.cap);
        return capabilityView(host, number, host.checkExtension(number));
      },
    }),
    operation({
      ...common,
      id: "listIoctls",
      path: "/v1/host/ioctls",
      summary: "List KVM's ioctls and their state",
      description: "Every arm64 ioctl of KVM, whether this host has it, and its operation here.",
      answers: { 200: json("All ioctls.", Ioctls) },
      handle: () => ({ items: host.ioctls(), nextCursor: null }),
    }),
  ];
}
