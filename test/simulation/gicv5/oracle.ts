// Owns: what must come of SPIs of a GICv5 VM under each policy of SPI tracking: a model of the
// interrupts as the architecture has them, of irqfds with a resampler, and of message 004's list.
// It imports nothing of src/kvm. Test process.
// @source interrupts.md 1.6, 5.4, 5.8, 5.10 to 5.13; gicv5-observed.md 4; seed 004

export type Policy = "none" | "seed004" | "seed004-notifier-only" | "exact";
export const POLICIES: readonly Policy[] = ["exact", "none", "seed004", "seed004-notifier-only"];

export interface SpiRow {
  readonly id: number;
  readonly config: "level" | "edge";
  /** vCPU that it is delivered to. */
  readonly vcpu: number;
}

/** An SPI as the silicon and KVM have it. */
interface Spi extends SpiRow {
  pending: boolean;
  active: boolean;
  enabled: boolean;
  /** As userspace or an irqfd last drove it. */
  line: boolean;
  /** irq->pending_latch: an edge that KVM was told of. */
  latch: boolean;
  /** Somebody listens to its end. */
  isHeard: boolean;
  /** seed004: in flight as KVM sees it. */
  isListed: boolean;
  /** notifier-only: plain seed004 would have it on its list, with this latch. */
  shadow: { latch: boolean } | null;
  /** Its deactivation has told nobody yet. */
  owes: boolean;
}

/** What a campaign adds up. */
export const TOTALS = {
  completions: "level SPIs with a listener that the guest deactivated",
  acks: "times that a resamplefd was told",
  onTime: "acks given by the deactivation itself",
  late: "acks given by a later exit",
  lost: "completions that nobody was told of before the next one, or ever",
  spurious: "acks without a completion: of edges, of lines that fell too soon, of cleared ones",
  redelivered: "those taken again though their device had said nothing since: storms",
  vdrcfg: "VDRCFG reads",
  skipped: "reads that plain seed004 would have made beside",
} as const;
export type Total = keyof typeof TOTALS;

export class Oracle {
  readonly policy: Policy;
  readonly spis: readonly Spi[];
  readonly totals: Record<Total, number>;
  /** By SPI: what its resamplefd must have counted. */
  readonly told = new Map<number, number>();
  /** FIFO of seed004. */
  #list: Spi[] = [];
  /** By vCPU: an interrupt was acknowledged and its priority not dropped. */
  readonly #busy: boolean[];
  /** SPIs that somebody listens to, whose device has said nothing since they were taken. */
  readonly #quiet = new Set<Spi>();

  constructor(policy: Policy, rows: readonly SpiRow[], vcpus: number) {
    this.policy = policy;
    this.spis = rows.map((row) => ({
      ...row,
      ...{ pending: false, active: false, enabled: true, line: false, latch: false },
      ...{ isHeard: false, isListed: false, shadow: null, owes: false },
    }));
    this.#busy = Array.from({ length: vcpus }, () => false);
    const zeros = Object.keys(TOTALS).map((name) => [name, 0]);
    this.totals = Object.fromEntries(zeros) as Record<Total, number>;
  }

  #spi(id: number): Spi {
    const spi = this.spis.find((one) => one.id === id);
    if (spi === undefined) throw new Error(`the oracle knows no SPI ${id}`);
    return spi;
  }

  // ── outside ───────────────────────────────────────────────────────────────────────────────────

  /** KVM_IRQ_LINE, or an irqfd that was signalled. */
  drive(id: number, level: boolean): void {
    const spi = this.#spi(id);
    if (level) this.#quiet.delete(spi);
    this.#inject(spi, level);
  }

  #inject(spi: Spi, level: boolean): void {
    // A line that is as it was is no news to KVM, nor is the end of an edge.
    if (spi.config === "edge" ? !level : spi.line === level) return;
    if (spi.config === "edge") spi.latch = true;
    else spi.line = level;
    spi.pending = isPending(spi);
    this.#enlist(spi);
  }

  #enlist(spi: Spi): void {
    if (spi.isListed || !this.policy.startsWith("seed004")) return;
    if (this.policy === "seed004-notifier-only" && !spi.isHeard) {
      spi.shadow ??= { latch: spi.latch };
      return;
    }
    spi.isListed = true;
    this.#list.push(spi);
  }

  /** The first resampling irqfd of its GSI comes. */
  listen(id: number): void {
    const spi = this.#spi(id);
    spi.isHeard = true;
    if (spi.shadow === null) return;
    spi.shadow = null;
    this.#enlist(spi);
  }

  /** The last one goes: nobody is left who would lower its line. */
  unlisten(id: number): void {
    const spi = this.#spi(id);
    spi.isHeard = false;
    if (spi.owes) this.totals.lost++;
    spi.owes = false;
    this.#inject(spi, false);
  }

  // ── the guest ─────────────────────────────────────────────────────────────────────────────────

  /** GICR CDIA. @returns the SPI's number, or null: not valid */
  acknowledge(vcpu: number): number | null {
    if (this.#busy[vcpu] === true) return null;
    const ready = this.spis.filter((spi) => spi.vcpu === vcpu && isCandidate(spi));
    const [first] = ready.sort((a, b) => a.id - b.id);
    if (first === undefined) return null;
    this.#busy[vcpu] = true;
    first.active = true;
    if (first.config === "edge") first.pending = false;
    else if (this.#quiet.has(first)) this.totals.redelivered++;
    if (first.isHeard) this.#quiet.add(first);
    return first.id;
  }

  /** GIC CDEOI. */
  dropPriority(vcpu: number): void {
    this.#busy[vcpu] = false;
  }

  /** GIC CDDI. */
  deactivate(id: number): void {
    const spi = this.#spi(id);
    const wasActive = spi.active;
    spi.active = false;
    if (!wasActive || spi.config !== "level" || !spi.isHeard) return;
    this.totals.completions++;
    if (this.policy === "exact") {
      this.totals.onTime++;
      this.#tell(spi);
      return;
    }
    if (spi.owes) this.totals.lost++;
    spi.owes = true;
  }

  enable(id: number, isOn: boolean): void {
    this.#spi(id).enabled = isOn;
  }

  /** GIC CDPEND. */
  pend(id: number, isOn: boolean): void {
    this.#spi(id).pending = isOn;
  }

  // ── KVM ───────────────────────────────────────────────────────────────────────────────────────

  /** A vCPU left its guest: message 004's fold. */
  exit(): void {
    if (!this.policy.startsWith("seed004")) return;
    const idle: Spi[] = [];
    for (const spi of this.#list) {
      this.totals.vdrcfg++;
      if (spi.config === "edge") spi.latch = spi.pending;
      else if (!spi.pending && !spi.active) spi.latch = false;
      if (!spi.active && !isPending(spi)) idle.push(spi);
    }
    this.#list = this.#list.filter((spi) => !idle.includes(spi));
    for (const spi of idle) spi.isListed = false;
    this.#exitOfShadows();
    for (const spi of idle) this.#fold(spi);
  }

  #exitOfShadows(): void {
    for (const spi of this.spis) {
      const { shadow } = spi;
      if (shadow === null) continue;
      this.totals.skipped++;
      if (spi.config === "edge") shadow.latch = spi.pending;
      else if (!spi.pending && !spi.active) shadow.latch = false;
      const pending = shadow.latch || (spi.config === "level" && spi.line);
      if (!spi.active && !pending) spi.shadow = null;
    }
  }

  #fold(spi: Spi): void {
    if (!spi.isHeard) return;
    if (spi.owes) this.totals.late++;
    else this.totals.spurious++;
    spi.owes = false;
    this.#tell(spi);
  }

  /** First the line falls, then the resamplefd hears of it. */
  #tell(spi: Spi): void {
    this.#inject(spi, false);
    this.told.set(spi.id, (this.told.get(spi.id) ?? 0) + 1);
    this.totals.acks++;
  }

  /** No more comes. */
  end(): void {
    for (const spi of this.spis) {
      if (spi.owes) this.totals.lost++;
      spi.owes = false;
    }
  }

  /** IDs on message 004's list, in order. */
  get inFlight(): readonly number[] {
    return this.#list.map(({ id }) => id);
  }
}

const isPending = ({ config, line, latch }: Spi): boolean => latch || (config === "level" && line);
const isCandidate = ({ pending, enabled, active }: Spi): boolean => pending && enabled && !active;
