// Planted defects of HDBSS, of its drain, and of cleaning by HACDBS.

import type { HostCpu } from "../../../src/machine/host-cpu.js";
import { BR_EN, decodeProd, ENTRY_BYTES, encodeProd } from "../../../src/machine/index.js";
import type { Machine } from "../../../src/vmm/machine.js";
import type { Planting } from "../plant.js";

type Dirty = Parameters<HostCpu["msr"]>[0];

/** Every CPU's writes of one register go through `change`; null: the write is left out. */
function onWrite(
  { kvm: { vm } }: Machine,
  register: Dirty,
  change: (cpu: HostCpu, value: bigint) => bigint | null,
): void {
  for (const cpu of vm.host.cpus) {
    const msr = cpu.msr.bind(cpu);
    cpu.msr = (name, value) => {
      const written = name === register ? change(cpu, value) : value;
      if (written !== null) msr(name, written);
    };
  }
}

/** What MRS of HDBSSPROD_EL2 tells KVM. */
function onReadProd(
  { kvm: { vm } }: Machine,
  change: (index: number, fsc: number) => bigint,
): void {
  for (const cpu of vm.host.cpus) {
    const mrs = cpu.mrs.bind(cpu);
    cpu.mrs = (name) => {
      if (name !== "HDBSSPROD_EL2") return mrs(name);
      const { index, fsc } = decodeProd(mrs(name));
      return change(index, fsc);
    };
  }
}

type Append = HostCpu["hdbss"]["append"];
/** In place of each CPU's append. */
function onAppend(
  { kvm: { vm } }: Machine,
  change: (append: Append, cpu: HostCpu) => Append,
): void {
  for (const cpu of vm.host.cpus) cpu.hdbss.append = change(cpu.hdbss.append.bind(cpu.hdbss), cpu);
}

/** Changes the array that HACDBS is about to begin. */
function onStart(machine: Machine, change: (low: Uint32Array, at: number) => void): void {
  const { memory } = machine.kvm.vm.host;
  onWrite(machine, "HACDBSBR_EL2", (cpu, value) => {
    const isStart = (value & BR_EN) !== 0n && (cpu.mrs("HACDBSBR_EL2") & BR_EN) === 0n;
    if (isStart) change(memory.u32, Number(value & 0xffff_ffff_f000n) / 4);
    return value;
  });
}

export const HARDWARE_PLANTS = {
  "hdbss-index-stuck": (machine) => {
    let n = 0;
    onAppend(machine, (append, cpu) => (...args) => {
      const done = append(...args);
      const { index, fsc } = decodeProd(cpu.hdbss.prod);
      if (done === "appended" && ++n % 16 === 0) cpu.hdbss.prod = encodeProd(index - 1, fsc);
      return done;
    });
  },
  "hdbss-entry-next-page": (machine) => {
    const { size } = machine.kvm.vm.host.geometry;
    onAppend(machine, (append) => (ipa, level, bytes, vcpu) => {
      return append(level === 3 && (ipa / size) & 1 ? ipa - size : ipa, level, bytes, vcpu);
    });
  },
  "hdbss-block-as-page": (machine) => {
    onAppend(machine, (append) => (ipa, _level, bytes, vcpu) => append(ipa, 3, bytes, vcpu));
  },
  "hdbss-drain-drops-last": (machine) => {
    onReadProd(machine, (index, fsc) => encodeProd(Math.max(0, index - 1), fsc));
  },
  "hdbss-drain-drops-first": (machine) => {
    const { memory } = machine.kvm.vm.host;
    for (const cpu of machine.kvm.vm.host.cpus) {
      const dsb = cpu.dsb.bind(cpu);
      cpu.dsb = () => {
        dsb();
        const { index } = decodeProd(cpu.hdbss.prod);
        const at = Number(cpu.hdbss.br & 0xffff_ffff_f000n) / 4;
        if (index > 1) memory.u32[at]! &= ~1;
      };
    }
  },
  "hdbss-index-kept": (machine) => {
    onWrite(machine, "HDBSSPROD_EL2", (cpu, value) => {
      const { index } = decodeProd(cpu.hdbss.prod);
      return cpu.vcpuId >= 0 && index > 0 && value === 0n ? null : value;
    });
  },
  "hdbss-fsc-ignored": (machine) => {
    onReadProd(machine, (index) => encodeProd(index, 0));
  },
  "hdbss-put-forgets": ({ kvm: { vm } }) => {
    const { hdbss } = vm;
    if (hdbss === null) return;
    const put = hdbss.put.bind(hdbss);
    hdbss.put = (vcpu, cpu) => {
      const { index } = decodeProd(cpu.hdbss.prod);
      if (index > 0 && index % 2 === 0) cpu.hdbss.prod = 0n;
      put(vcpu, cpu);
    };
  },
  "hdbss-load-no-base": (machine) => {
    const loaded = new Set<HostCpu>();
    onWrite(machine, "HDBSSBR_EL2", (cpu, value) => {
      if (loaded.has(cpu)) return null;
      loaded.add(cpu);
      return value;
    });
  },
  "hdbss-sync-nothing": ({ kvm: { vm } }) => {
    if (vm.hdbss !== null) vm.hdbss.sync = function* () {};
  },

  "hacdbs-skips-first": (machine) => {
    onStart(machine, (u32, at) => {
      u32[at]! &= ~1;
    });
  },
  "hacdbs-cleans-next": (machine) => {
    const { size } = machine.kvm.vm.host.geometry;
    onStart(machine, (u32, at) => {
      // The terminator stays what it is.
      if (((u32[at]! >>> 1) & 7) === 3) u32[at]! += size;
    });
  },
  "hacdbs-drops-last": (machine) => {
    const { size } = machine.kvm.vm.host.geometry;
    const slots = size / ENTRY_BYTES;
    onStart(machine, (u32, at) => {
      let last = -1;
      for (let n = 0; n < slots; n++) if (((u32[at + 2 * n]! >>> 1) & 7) === 3) last = n;
      if (last >= 0) u32[at + 2 * last]! &= ~1;
    });
  },
  "hacdbs-rollback-forgets": ({ kvm: { hacdbs } }) => {
    const batch = hacdbs.batch.bind(hacdbs);
    hacdbs.batch = function* (array): ReturnType<typeof batch> {
      const result = yield* batch(array);
      const isShort = result.done < array.count;
      return isShort ? { ...result, done: Math.min(array.count, result.done + 64) } : result;
    };
  },
  "hacdbs-refused-forgotten": ({ kvm: { hacdbs, vm } }) => {
    const batch = hacdbs.batch.bind(hacdbs);
    hacdbs.batch = function* (array): ReturnType<typeof batch> {
      vm.policies["clear.onError"] = "skip-and-software";
      return { ...(yield* batch(array)), refused: [] };
    };
  },
  "async-get-forgets": ({ kvm: { log } }) => {
    log.deferred.markInto = () => {};
  },
  "async-no-tlbi": ({ kvm: { log, vm } }) => {
    let isSettling = false;
    for (const name of ["ran", "put"] as const) {
      const settle = log.deferred[name].bind(log.deferred);
      log.deferred[name] = (vcpu, cpu) => {
        isSettling = true;
        settle(vcpu, cpu);
        isSettling = false;
      };
    }
    const flushRange = vm.flushRange.bind(vm);
    vm.flushRange = (first, pages) => {
      if (!isSettling) flushRange(first, pages);
    };
  },
  "async-drains-nothing": ({ kvm: { log } }) => {
    log.deferred.drain = function* () {};
  },
  "async-page-forgotten": ({ kvm: { log } }) => {
    const defer = log.deferred.defer.bind(log.deferred);
    log.deferred.defer = (slot, cleaned, pages, named) => {
      return defer(slot, cleaned, pages.length > 1 ? pages.slice(1) : pages, named);
    };
  },
  "hacdbs-unowned-cpu": ({ kvm: { vm } }) => {
    vm.borrowed.add = () => vm.borrowed;
  },
} as const satisfies Record<string, Planting>;
