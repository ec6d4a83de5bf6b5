// Owns: KVM_IRQFD: eventfds that raise interrupts, and those that are told when the guest is done
// with one. VM thread.
//
//   signal ─▶ hook ─▶ fast: line 1, or an MSI whose translation is cached
//                └──▶ job:  line 1 then 0; resampling: line 1
//   guest's end of interrupt ─▶ ack notifier of the GSI ─▶ line 0, then every resamplefd
//
// Nothing runs between two statements here, so what the kernel does by locks and grace periods is
// the order of the statements.
// @source virt/kvm/eventfd.c, arch/arm64/kvm/vgic/vgic-irqfd.c by behaviour; interrupts.md 1
import { assert } from "../base/assert.js";
import { KvmError } from "../base/errors.js";
import type { EventfdFound, EventfdHook } from "../base/eventfd-counters.js";
import type { Saved } from "../base/saved.js";
import type { AckNotifier, AckNotifiers } from "./ack-notifiers.js";
import type { Policies } from "./dirty/policy.table.js";
import { type EventfdArg, type EventfdPort, resolveEventfd } from "./io-bus.js";
import type { IrqRouting, Route } from "./irq-routing.js";
import type { JobKind, Jobs } from "./jobs.js";
import type { Trace } from "./trace.js";
import { KVM_IRQ_ROUTING, KVM_IRQFD } from "./uapi/flags.js";
import type { Vgic } from "./vgic/model.js";
import type { MsiPort } from "./vgic/msi-port.js";

const IOCTL = "KVM_IRQFD";

export interface IrqfdArgs {
  readonly fd: EventfdArg;
  readonly gsi: number;
  readonly flags: number;
  readonly resamplefd: EventfdArg;
}

/** What irqfds work with: the VM. */
interface IrqfdContext {
  readonly eventfds: EventfdPort;
  readonly routing: IrqRouting;
  readonly ackNotifiers: AckNotifiers;
  readonly jobs: Jobs;
  readonly policies: Policies;
  readonly trace: Trace;
  readonly vgic: Vgic;
  readonly msi: MsiPort | null;
}

/** Those that share the line of one GSI: it is lowered once for all of them. */
interface Resampler {
  readonly gsi: number;
  readonly members: Irqfd[];
  readonly notifier: AckNotifier;
  /** The SPI that was marked to keep its level, or -1. */
  levelPin: number;
}

interface Irqfd {
  readonly id: number;
  readonly eventfd: number;
  readonly gsi: number;
  /** null: an ordinary one. */
  readonly resamplefd: number | null;
  readonly hook: EventfdHook;
  resampler: Resampler | null;
  /** The one route of its GSI, as of the last change of the table; null: none, or several. */
  route: Route | null;
  /** Detached; a job takes the rest away. */
  isDead: boolean;
}

export interface IrqfdView {
  readonly id: number;
  readonly eventfd: number;
  readonly gsi: number;
  readonly flags: number;
  readonly resamplefd: number | null;
}

export class Irqfds {
  readonly #vm: IrqfdContext;
  /** In the order of assignment. */
  #items: Irqfd[] = [];
  /** Detached by a hang-up, until their job has run. */
  #dead: Irqfd[] = [];
  readonly #resamplers = new Map<number, Resampler>();
  #nextId = 1;
  /** What their eventfds have counted is for somebody else. */
  #leavesCounts = false;

  constructor(vm: IrqfdContext) {
    this.#vm = vm;
    vm.jobs.run = (kind, irqfd) => this.#run(kind, irqfd);
    vm.routing.onChange = () => {
      for (const irqfd of this.#items) irqfd.route = this.#snapshot(irqfd.gsi);
      vm.vgic.notifiersChanged();
    };
  }

  list(): readonly IrqfdView[] {
    return this.#items.map(({ id, eventfd, gsi, resamplefd }) => ({
      id,
      eventfd,
      gsi,
      flags: resamplefd === null ? 0 : KVM_IRQFD.RESAMPLE,
      resamplefd,
    }));
  }

  /**
   * KVM_IRQFD.
   * @returns the new irqfd's number; null: it was a deassignment
   * @throws KvmError EINVAL, EAGAIN, EBADF, EBUSY in the kernel's order
   */
  irqfd(args: IrqfdArgs): number | null {
    if ((args.flags & ~(KVM_IRQFD.DEASSIGN | KVM_IRQFD.RESAMPLE)) !== 0) {
      throw new KvmError("EINVAL", IOCTL, "flags may hold only DEASSIGN (1) and RESAMPLE (2)");
    }
    if ((args.flags & KVM_IRQFD.DEASSIGN) === 0) {
      const { irqfd, found } = this.#assign(args, false);
      // What was counted before is injected once, and stays in the counter.
      if (found.endsWith("positive")) this.#vm.jobs.add("inject", irqfd.id);
      return irqfd.id;
    }
    this.#deassign(resolveEventfd(this.#vm.eventfds, args.fd, IOCTL), args.gsi);
    return null;
  }

  /** @param mayWait behind another VM's irqfd on the same eventfd */
  #assign({ fd, gsi, flags, resamplefd }: IrqfdArgs, mayWait: boolean) {
    const { eventfds, vgic } = this.#vm;
    if (!vgic.isInitialized) {
      throw new KvmError("EAGAIN", IOCTL, "the VM has no initialised vGIC", "vgic-not-initialized");
    }
    const eventfd = resolveEventfd(eventfds, fd, IOCTL);
    const resamples = (flags & KVM_IRQFD.RESAMPLE) !== 0;
    const resample = resamples ? resolveEventfd(eventfds, resamplefd, IOCTL) : null;
    const irqfd = this.#make(this.#nextId, eventfd, gsi, resample);
    // Before the hook: whatever it injects can't be acknowledged unheard.
    if (resample !== null) this.#join(irqfd);
    const found = this.#hook(irqfd, mayWait);
    if (found === null) {
      this.#leave(irqfd);
      this.#put(irqfd);
      throw new KvmError("EBUSY", IOCTL, "the eventfd is bound to an irqfd already");
    }
    this.#nextId++;
    this.#items.push(irqfd);
    return { irqfd, found };
  }

  #make(id: number, eventfd: number, gsi: number, resamplefd: number | null): Irqfd {
    this.#vm.eventfds.get(eventfd);
    if (resamplefd !== null) this.#vm.eventfds.get(resamplefd);
    const irqfd: Irqfd = {
      id,
      eventfd,
      gsi,
      resamplefd,
      hook: { wake: () => this.#wake(irqfd), hungUp: () => this.#hungUp(irqfd) },
      resampler: null,
      route: this.#snapshot(gsi),
      isDead: false,
    };
    return irqfd;
  }

  /** @returns how the counter was found; null: it is somebody else's (EBUSY) */
  #hook(irqfd: Irqfd, mayWait: boolean): EventfdFound | null {
    if (this.#items.some(({ eventfd }) => eventfd === irqfd.eventfd)) return null;
    const mayQueue = mayWait || this.#vm.policies["irq.era"] === "pre617";
    const found = this.#vm.eventfds.hook(irqfd.eventfd, irqfd.hook, mayQueue);
    return found.startsWith("busy") && !mayQueue ? null : found;
  }

  #put({ eventfd, resamplefd }: Irqfd): void {
    this.#vm.eventfds.put(eventfd);
    if (resamplefd !== null) this.#vm.eventfds.put(resamplefd);
  }

  #deassign(eventfd: number, gsi: number): void {
    const these = this.#items.filter((it) => it.eventfd === eventfd && it.gsi === gsi);
    for (const irqfd of these) this.#deactivate(irqfd);
    this.#vm.jobs.flush("shutdown");
  }

  /** irqfd_deactivate. */
  #deactivate(irqfd: Irqfd): void {
    if (irqfd.isDead) return;
    irqfd.isDead = true;
    this.#items = this.#items.filter((other) => other !== irqfd);
    this.#dead.push(irqfd);
    this.#vm.jobs.add("shutdown", irqfd.id);
  }

  /** irqfd_shutdown: from here on it injects nothing and tells nobody. */
  #shutdown(irqfd: Irqfd): void {
    this.#dead = this.#dead.filter((other) => other !== irqfd);
    this.#vm.eventfds.unhook(irqfd.eventfd, irqfd.hook, this.#leavesCounts);
    this.#leave(irqfd);
    this.#put(irqfd);
  }

  #run(kind: JobKind, id: number): void {
    if (kind === "shutdown") {
      const dead = this.#dead.find((irqfd) => irqfd.id === id);
      if (dead !== undefined) this.#shutdown(dead);
      return;
    }
    const irqfd = this.#items.find((item) => item.id === id);
    if (irqfd === undefined) return;
    this.setIrq(irqfd.gsi, true);
    if (irqfd.resampler === null) this.setIrq(irqfd.gsi, false);
  }

  /**
   * Those of the same VM on another host, under their old numbers. What their eventfds have counted
   * meanwhile is the caller's to bring in, once the VM is let go.
   * @param mayWait of an eventfd: behind the irqfd of the VM that this one was
   * @throws KvmError as irqfd()
   */
  restore(
    irqfds: readonly IrqfdView[],
    nextId: number,
    mayWait: (eventfd: number) => boolean,
  ): void {
    for (const { id, eventfd, gsi, flags, resamplefd } of irqfds) {
      this.#nextId = id;
      const fd = { index: eventfd, isEventfd: true };
      const resample = { index: resamplefd ?? -1, isEventfd: true };
      this.#assign({ fd, gsi, flags, resamplefd: resample }, mayWait(eventfd));
    }
    this.#nextId = nextId;
  }

  /** Number of the irqfd that is assigned next. */
  get nextId(): number {
    return this.#nextId;
  }

  // ── injection ───────────────────────────────────────────────────────────────────────────────

  /** irqfd_wakeup. */
  #wake(irqfd: Irqfd): void {
    if (irqfd.isDead || this.#injectAtOnce(irqfd.route)) return;
    this.#vm.jobs.add("inject", irqfd.id);
  }

  #hungUp(irqfd: Irqfd): void {
    this.#deactivate(irqfd);
  }

  /** kvm_arch_set_irq_inatomic. @returns false: that takes a job */
  #injectAtOnce(route: Route | null): boolean {
    const { policies, vgic, msi } = this.#vm;
    if (route === null || policies["irq.irqfdFastPath"] === "off") return false;
    if (route.type === KVM_IRQ_ROUTING.MSI) return msi?.cached(route) === true;
    if (!vgic.isInitialized) return false;
    this.#traceSet(route.gsi, true);
    vgic.setSpi(route.pin, true);
    return true;
  }

  /** kvm_set_irq: drives every route of a GSI. */
  setIrq(gsi: number, level: boolean): void {
    const { routing, vgic, msi } = this.#vm;
    this.#traceSet(gsi, level);
    for (const route of routing.of(gsi)) {
      if (route.type === KVM_IRQ_ROUTING.IRQCHIP) vgic.setSpi(route.pin, level);
      else if (level) msi?.deliver(route);
    }
  }

  #traceSet(gsi: number, level: boolean): void {
    const { trace } = this.#vm;
    if (trace.isOn) trace.add("kvm_set_irq", null, { gsi, level: level ? 1 : 0 });
  }

  /** irqfd_update. */
  #snapshot(gsi: number): Route | null {
    const [route, ...others] = this.#vm.routing.of(gsi);
    return others.length === 0 ? (route ?? null) : null;
  }

  // ── resampling ──────────────────────────────────────────────────────────────────────────────

  #join(irqfd: Irqfd): void {
    const { gsi } = irqfd;
    let resampler = this.#resamplers.get(gsi);
    if (resampler === undefined) {
      resampler = { gsi, members: [], notifier: () => this.#acked(gsi), levelPin: -1 };
      this.#resamplers.set(gsi, resampler);
      this.#vm.ackNotifiers.register(gsi, resampler.notifier);
      this.#vm.vgic.notifiersChanged();
      this.#keepLevel(resampler);
    }
    resampler.members.push(irqfd);
    irqfd.resampler = resampler;
  }

  #keepLevel(resampler: Resampler): void {
    const { policies, vgic } = this.#vm;
    const route = this.#snapshot(resampler.gsi);
    if (!policies["irq.spiDefaultLevelForIrqfd"] || route?.type !== KVM_IRQ_ROUTING.IRQCHIP) return;
    resampler.levelPin = route.pin;
    vgic.keepLevel(route.pin, true);
  }

  /** irqfd_resampler_shutdown. */
  #leave(irqfd: Irqfd): void {
    const { resampler } = irqfd;
    if (resampler === null) return;
    irqfd.resampler = null;
    resampler.members.splice(resampler.members.indexOf(irqfd), 1);
    if (resampler.members.length > 0) return;
    this.#resamplers.delete(resampler.gsi);
    this.#vm.ackNotifiers.unregister(resampler.gsi, resampler.notifier);
    this.#vm.vgic.notifiersChanged();
    // Nobody is left who would lower it.
    this.setIrq(resampler.gsi, false);
    if (resampler.levelPin >= 0) this.#vm.vgic.keepLevel(resampler.levelPin, false);
  }

  /** irqfd_resampler_ack: the line first, so that who raises it again has the last word. */
  #acked(gsi: number): void {
    const resampler = this.#resamplers.get(gsi);
    assert(resampler !== undefined, "a notifier is taken off with its resampler");
    this.setIrq(gsi, false);
    for (const irqfd of [...resampler.members]) {
      // Whoever was told before it may have detached it: then it hears no more.
      const isIn = irqfd.resamplefd !== null && irqfd.resampler === resampler;
      if (isIn) this.#vm.eventfds.signal(irqfd.resamplefd);
    }
  }

  // ── the VM's life ───────────────────────────────────────────────────────────────────────────

  /**
   * kvm_irqfd_release.
   * @param leavesCounts of a VM that is somewhere else now, where they belong
   */
  close(leavesCounts = false): void {
    this.#leavesCounts = leavesCounts;
    for (const irqfd of [...this.#items]) this.#deactivate(irqfd);
    this.#vm.jobs.flush("shutdown");
  }

  save(): Saved {
    const plain = ({ id, eventfd, gsi, resamplefd }: Irqfd) => ({ id, eventfd, gsi, resamplefd });
    const pins = [...this.#resamplers.values()].map(({ gsi, levelPin }) => [gsi, levelPin]);
    const data = {
      items: this.#items.map(plain),
      dead: this.#dead.map(plain),
      pins,
      nextId: this.#nextId,
    };
    return { kind: "irqfds", version: 1, data };
  }

  /** After the routing table, and before the jobs. */
  load(saved: Saved): void {
    type Plain = Pick<Irqfd, "id" | "eventfd" | "gsi" | "resamplefd">;
    const data = saved.data as {
      items: Plain[];
      dead: Plain[];
      pins: [number, number][];
      nextId: number;
    };
    this.close();
    const again = ({ id, eventfd, gsi, resamplefd }: Plain): Irqfd => {
      const irqfd = this.#make(id, eventfd, gsi, resamplefd);
      if (resamplefd !== null) this.#join(irqfd);
      this.#vm.eventfds.hook(eventfd, irqfd.hook, true);
      return irqfd;
    };
    this.#items = data.items.map(again);
    this.#dead = data.dead.map((plain) => Object.assign(again(plain), { isDead: true }));
    for (const [gsi, pin] of data.pins) {
      const resampler = this.#resamplers.get(gsi);
      if (resampler !== undefined) resampler.levelPin = pin;
    }
    this.#nextId = data.nextId;
  }
}
