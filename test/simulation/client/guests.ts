// The client's vCPU threads that run guest code: registers say which routine, on which pages; the
// doorbell says that it is done. What guests count together is held against what each counted.
import type { CommandResult } from "../../../src/vmm/index.js";
import { little, reg } from "../../support/registers.js";
import { constant, DOORBELL, FAIL, PLACE, ROUTINES, type Routine } from "../guest/code.js";
import { AF, AP_RO, MAIR } from "../guest/tables.js";
import type { GuestLayout } from "../layout.js";
import { chance, takeCleaned, type World } from "../world.js";

const GENERIC_V8 = 5;
const PSCI_0_2 = 4n;
const LCG_FACTOR = 6_364_136_223_846_793_005n;
const LCG_TERM = 1_442_695_040_888_963_407n;
/** SCTLR_EL1.M and C. */
const MMU_ON = 5n;
/** CPACR_EL1.FPEN: nothing traps. */
const FP_ON = 3n << 20n;
/** Stage 1 off makes all data Device: nothing unaligned, no DC ZVA. */
const NEEDS_NORMAL: readonly Routine[] = ["unaligned", "zva"];
const NEEDS_MANAGED: readonly Routine[] = ["descriptors"];

/** Pages that a guest stores to. */
interface Window {
  readonly first: number;
  readonly pages: number;
}

export class GuestVcpuClient {
  readonly id: number;
  readonly #world: World;
  readonly #guest: GuestLayout;
  #isRunning = false;
  #needsProgram = true;
  /** The last exit was the doorbell: the next run goes on with the routine in x20. */
  #isDone = false;
  #isMmioPending = false;
  #mmioData: Uint8Array | null = null;
  #misses = 0;
  /** What the host had written when the routine that calls it began. */
  #mustSee = 0;
  isRingFull = false;

  constructor(world: World, guest: GuestLayout, id: number) {
    this.#world = world;
    this.#guest = guest;
    this.id = id;
    world.link.now("createVcpu", { id });
  }

  /** KVM_ARM_VCPU_INIT and what never changes; the code is there already. */
  init(): void {
    const { link } = this.#world;
    const { tables, codeAt, code } = this.#guest;
    link.now("vcpuInit", { vcpu: this.id, target: GENERIC_V8, features: [PSCI_0_2] });
    this.#set(reg.sys("CPACR_EL1"), FP_ON);
    this.#set(reg.sys("VBAR_EL1"), BigInt(codeAt + PLACE.vectors));
    if (tables !== null) {
      this.#set(reg.sys("MAIR_EL1"), MAIR);
      this.#set(reg.sys("TTBR0_EL1"), tables.ttbr0);
      this.#set(reg.sys("TCR_EL1"), tables.tcr);
      this.#set(reg.sys("SCTLR_EL1"), this.#get(reg.sys("SCTLR_EL1")) | MMU_ON);
    }
    this.#set(reg.x(5), LCG_FACTOR);
    this.#set(reg.x(6), LCG_TERM);
    this.#set(reg.x(7), BigInt(codeAt + PLACE.shared));
    this.#set(reg.x(18), AF);
    this.#set(reg.x(19), BigInt(DOORBELL));
    this.#set(reg.x(21), BigInt(codeAt + PLACE.own + this.id * PLACE.ownBytes));
    this.#set(reg.x(22), BigInt(codeAt + PLACE.patched));
    this.#set(reg.x(25), AP_RO);
    this.#set(reg.PC, BigInt(codeAt + code.begin));
  }

  get isRunning(): boolean {
    return this.#isRunning;
  }

  #set(id: bigint, value: bigint): void {
    this.#world.link.now("setOneReg", { vcpu: this.id, reg: id, value: little(value, 8) });
  }

  #get(id: bigint): bigint {
    return this.#world.link.now("getOneReg", { vcpu: this.id, reg: id }).value;
  }

  /** Stores at every half block of a slot, so that blocks get mapped. */
  warm(slot: number): void {
    const { layout, oracle } = this.#world;
    const place = oracle.model.slot(slot).current;
    if (this.#isRunning || this.#isMmioPending || place === null) return;
    const step = Math.max(1, layout.blockPages >>> 1);
    const rounds = Math.ceil(place.npages / step);
    this.#begin("stride", { first: place.baseGfn, pages: place.npages }, rounds, step);
  }

  #draw(): void {
    const { prng, layout, oracle } = this.#world;
    const routines = ROUTINES.filter((name) => {
      if (NEEDS_NORMAL.includes(name) && this.#guest.tables === null) return false;
      return !NEEDS_MANAGED.includes(name) || this.#guest.isManaged;
    });
    const home = prng.pick(layout.homes);
    const place = oracle.model.slot(home.slot).current;
    let window: Window = { first: home.first, pages: home.pages };
    if (place !== null && chance(this.#world, 95)) {
      const pages = chance(this.#world, 50) ? place.npages : 1 + prng.below(place.npages);
      const first = place.baseGfn + prng.below(place.npages - pages + 1);
      window = { first, pages };
    }
    const { windows } = this.#guest;
    const end = windows.first + windows.pages;
    const hot = this.#world.hot.filter((page) => page >= home.first && page < end);
    if (hot.length > 0 && chance(this.#world, 40)) {
      const first = prng.pick(hot);
      window = { first, pages: 1 + prng.below(3) };
    }
    const rounds = chance(this.#world, 30) ? 1_000_000 : 10 + prng.below(400);
    this.#begin(prng.pick(routines), window, rounds, 1 + prng.below(3));
  }

  #begin(routine: Routine, window: Window, rounds: number, step: number): void {
    const { prng, layout } = this.#world;
    const { codeAt, code, tables, windows } = this.#guest;
    const { pageSize } = layout.definition;
    this.#settleTally();
    this.#mustSee = routine === "patched" ? this.#guest.patched.constant : 0;
    const crosses = routine === "pairs" || routine === "unaligned";
    // Descriptors exist for the homes' pages only; what crosses a page needs the one behind it.
    const last = windows.first + windows.pages - (crosses ? 1 : 0);
    const first = Math.min(window.first, last - 1);
    const pages = crosses ? Math.max(1, window.pages - 1) : window.pages;
    const limit = routine === "stride" ? last - first : rounds * step;
    this.#set(reg.x(0), BigInt(first * pageSize));
    this.#set(reg.x(1), BigInt(Math.min(pages, last - first)));
    this.#set(reg.x(2), prng.u64());
    this.#set(reg.x(3), BigInt(Math.max(1, Math.floor(Math.min(rounds * step, limit) / step))));
    const own = routine === "rewriteHere" ? this.id * PLACE.ownBytes : 0;
    this.#set(reg.x(20), BigInt(codeAt + code.entries[routine] + own));
    if (tables !== null) {
      const at = tables.descriptors + (first - windows.first) * 8;
      this.#set(reg.x(24), BigInt(at));
    }
    this.#set(reg.x(26), BigInt(step * pageSize));
    if (!this.#isDone) this.#set(reg.PC, BigInt(codeAt + code.begin));
    this.#needsProgram = false;
  }

  /** Runs again, unless it runs already. */
  act(): void {
    if (this.#isRunning) return;
    const isStuck = this.#isMmioPending && !this.#isDone;
    const wants = this.#needsProgram || chance(this.#world, 5);
    if (wants && !isStuck) this.#draw();
    // An access that meets a hole again and again is completed, and the program left.
    const immediateExit = chance(this.#world, 2) || (isStuck && this.#needsProgram);
    const args = { vcpu: this.id, immediateExit, mmioData: this.#mmioData };
    this.#mmioData = null;
    this.#isRunning = true;
    this.#world.link.call("run", args, (reply) => {
      this.#isRunning = false;
      if (reply.ok) this.#exited(reply.value);
    });
  }

  #exited({ exitReason, errno, mmio, cleaned }: CommandResult<"run">): void {
    if (cleaned !== undefined) takeCleaned(this.#world, cleaned);
    this.isRingFull = exitReason === "KVM_EXIT_DIRTY_RING_FULL";
    this.#isMmioPending = mmio !== undefined;
    const address = mmio === undefined ? -1 : Number(mmio.physAddr);
    this.#isDone = address === DOORBELL;
    this.#misses = mmio !== undefined && !this.#isDone ? this.#misses + 1 : 0;
    if (this.#isDone && this.#get(reg.x(23)) < this.#mustSee) this.#failed();
    if (this.#isDone || this.#misses > 6) this.#needsProgram = true;
    if (errno === "EFAULT" || errno === "ENOSYS") this.#needsProgram = true;
    if (address === FAIL) this.#failed();
    if (mmio?.isWrite === false) this.#mmioData = new Uint8Array(mmio.len);
  }

  #failed(): void {
    const what = [reg.x(28), reg.x(29), reg.x(27), reg.x(12), reg.x(13), reg.x(23)];
    const values = what.map((id) => `0x${this.#get(id).toString(16)}`);
    this.#world.oracle.fail(`guest of vCPU ${this.id}: ESR, FAR, ELR, x12, x13, x23 ${values}`);
  }

  kick(): void {
    this.#world.link.now("kick", { vcpu: this.id });
  }

  /** With the vCPU out of RUN: what it added to the shared words, those under way decided. */
  tally(): readonly [ldadd: bigint, exclusive: bigint] {
    const { codeAt, code } = this.#guest;
    const at = Number(this.#get(reg.PC)) - codeAt - code.atomics.ldadd;
    const retry = Number(this.#get(reg.PC)) - codeAt - code.atomics.retry;
    const isStored = retry === 4 || (retry === 0 && this.#get(reg.x(16)) === 0n);
    const [first, second] = [this.#get(reg.x(8)), this.#get(reg.x(9))];
    return [at === 0 ? first - 1n : first, isStored ? second + 1n : second];
  }

  /** Before the routine is left wherever it is. */
  #settleTally(): void {
    const [first, second] = this.tally();
    this.#set(reg.x(8), first);
    this.#set(reg.x(9), second);
  }
}

/** All guests of a VM and their code. */
export class Guests {
  readonly vcpus: readonly GuestVcpuClient[];
  readonly #world: World;
  readonly #guest: GuestLayout;

  constructor(world: World, guest: GuestLayout, vcpus: readonly GuestVcpuClient[]) {
    this.#world = world;
    this.#guest = guest;
    this.vcpus = vcpus;
  }

  /** Once the slot of code is there. */
  init(): void {
    const { code, tables } = this.#guest;
    for (const { at, bytes } of code.parts) this.#write(at, bytes);
    if (tables !== null) this.#write(PLACE.tables, tables.bytes);
    for (const vcpu of this.vcpus) vcpu.init();
  }

  #write(at: number, bytes: Uint8Array): void {
    const { link, content } = this.#world;
    const { home, codeAt } = this.#guest;
    link.now("writePhysicalMemory", { gpa: BigInt(codeAt + at), bytes });
    content.patch(home.slot, at, bytes);
  }

  /** The host changes code that guests may be running. */
  patch(): void {
    const { patched } = this.#guest;
    patched.constant++;
    this.#write(PLACE.patched, little(BigInt(constant(patched.constant)[0]!), 4));
  }

  /** With every vCPU out of RUN. @returns what is wrong with the shared words, or null */
  check(): string | null {
    const gpa = BigInt(this.#guest.codeAt + PLACE.shared);
    const bytes = this.#world.link.now("readPhysicalMemory", { gpa, length: 128 });
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    const words = [view.getBigUint64(0, true), view.getBigUint64(64, true)];
    const sums = [0n, 0n];
    for (const vcpu of this.vcpus) {
      for (const [i, n] of vcpu.tally().entries()) sums[i]! += n;
    }
    if (words[0] === sums[0] && words[1] === sums[1]) return null;
    return `guests added ${sums} and the words hold ${words}`;
  }
}
