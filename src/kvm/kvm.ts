// Owns: one VM's KVM put together: state and operations. VM thread.
import type { Clock } from "../base/clock.js";
import { Host, type HostConfig, type Translation } from "../machine/index.js";
import type { Charger } from "./account.js";
import { Hacdbs } from "./dirty/hacdbs.js";
import { Hdbss } from "./dirty/hdbss.js";
import { blockRule } from "./dirty/leaf-policy.js";
import { NestedHacdbs } from "./dirty/nested.js";
import { DirtyLog } from "./dirty-log.js";
import { GuestMemory } from "./guest-memory.js";
import type { EventfdPort } from "./io-bus.js";
import { Mmu } from "./mmu.js";
import { PvTime } from "./pvtime.js";
import { Reclaim } from "./reclaim.js";
import { RingReset } from "./ring-reset.js";
import { RunLoop } from "./run-loop.js";
import { Scheduler } from "./sched/scheduler.js";
import { MemoryRegions } from "./set-memory-region.js";
import { ipaBitsOf, Vm, type VmConfig } from "./vm.js";

export interface KvmDeps {
  readonly budget: Charger;
  readonly eventfds: EventfdPort;
  /** Seed of the scheduler's choices; null means round robin. */
  readonly scheduleSeed: bigint | null;
  /** When hot guest code is translated; null for never. */
  readonly translation: Translation | null;
  readonly clock: Clock;
}

export class Kvm {
  readonly vm: Vm;
  readonly hacdbs: Hacdbs;
  readonly nested: NestedHacdbs;
  readonly log: DirtyLog;
  readonly hdbss: Hdbss;
  readonly regions: MemoryRegions;
  readonly mmu: Mmu;
  readonly runs: RunLoop;
  readonly rings: RingReset;
  readonly reclaim: Reclaim;

  /** @throws KvmError EINVAL when the host has no such IPA size */
  constructor(config: VmConfig, host: HostConfig, deps: KvmDeps) {
    // Refuse before anything is allocated.
    ipaBitsOf(config.type);
    this.vm = new Vm(config, {
      host: new Host(host),
      sched: new Scheduler(deps.scheduleSeed),
      budget: deps.budget,
      eventfds: deps.eventfds,
      vmid: 1,
      seed: host.seed,
      translation: deps.translation,
      clock: deps.clock,
    });
    this.hacdbs = new Hacdbs(this.vm);
    this.log = new DirtyLog(this.vm, this.hacdbs);
    this.hdbss = new Hdbss(this.vm, this.log);
    this.vm.hdbss = this.hdbss;
    this.vm.tables.blockRule = () => blockRule(this.vm);
    this.nested = new NestedHacdbs(this.vm, this.log);
    this.vm.asyncClean = this.log.deferred;
    this.regions = new MemoryRegions(this.vm, this.log);
    this.mmu = new Mmu(this.vm, this.log);
    this.vm.pvTime = new PvTime(this.vm, this.log);
    this.vm.guestMemory = new GuestMemory(this.vm, this.log);
    this.runs = new RunLoop(this.vm, this.mmu);
    this.rings = new RingReset(this.vm, this.log, this.hacdbs);
    this.reclaim = new Reclaim(this.vm, this.regions);
  }
}
