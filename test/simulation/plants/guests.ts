// Planted defects of what guest code is cached by.
import type { Planting } from "../plant.js";

export const GUEST_PLANTS = {
  "pe-keeps-tlb": ({ kvm: { vm } }) => {
    const { host } = vm;
    const range = host.tlbiRange.bind(host);
    const vmid = host.tlbiVmid.bind(host);
    host.tlbiRange = (...args) => {
      range(...args);
      host.stage2Version--;
    };
    host.tlbiVmid = (id) => {
      vmid(id);
      host.stage2Version--;
    };
  },
  "host-store-keeps-code": ({ kvm: { vm } }) => {
    // The watcher comes with the first vCPU that is initialised.
    Object.defineProperty(vm.host, "codeWatcher", { get: () => null, set: () => {} });
  },
} as const satisfies Readonly<Record<string, Planting>>;
