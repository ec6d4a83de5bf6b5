// Owns: what a board is built of: RAM, vCPUs, devices and their wires, and their power-on state.
// VM thread.
import { assert } from "../../base/assert.js";
import { KvmError, ServiceError } from "../../base/errors.js";
import type { Saved } from "../../base/saved.js";
import {
  armVcpuInit,
  createVcpu,
  enableCap,
  KVM_ARM_VCPU,
  type Kvm,
  type Op,
  type RunOutcome,
  setOneReg,
  setVcpuAttr,
  type Vcpu,
} from "../../kvm/index.js";
import type { BoardDefinition } from "../definition.js";
import { writeGuest } from "../memory-access.js";
import type { BoardImages } from "./commands.js";
import { Devices } from "./device.js";
import { deviceTree } from "./device-tree.js";
import { Flash } from "./flash.js";
import { FwCfg } from "./fw-cfg.js";
import { createGic } from "./gic.js";
import { GuestMemory } from "./guest-memory.js";
import { Interrupts } from "./interrupts.js";
import { firmwareLayout, type Layout, layout } from "./loader.js";
import { MIB, RAM_BASE, SPI } from "./memory-map.table.js";
import { plugPcie } from "./pci/host.js";
import { Pl011 } from "./pl011.js";
import { Pl031 } from "./pl031.js";
import { TimeOfDay } from "./time.js";
import { type ConsolePort, plugVirtio } from "./virtio/plug.js";

const TARGET_GENERIC_V8 = 5;
/** As QEMU asks of KVM for its virt machine. */
const FEATURES = (1 << KVM_ARM_VCPU.PSCI_0_2) | (1 << KVM_ARM_VCPU.PMU_V3);
/** KVM_ARM_VCPU_PMU_V3_CTRL: its PPI, and INIT. */
const PMU_GROUP = 0;
const PMU_IRQ = 0n;
const PMU_INIT = 1n;
const PMU_INTID = 23;
const POWER_OFF = 1 << KVM_ARM_VCPU.POWER_OFF;
/** KVM_REG_ARM_CORE ids of X0 and PC. */
const X0 = 0x6030_0000_0010_0000n;
export const PC = 0x6030_0000_0010_0040n;
/** The slot and the memory object that hold the board's RAM. */
export const RAM_SLOT = 0;

const LOG_DIRTY_PAGES = 1;
/** KVM_CAP_DIRTY_LOG_RING_ACQ_REL and _WITH_BITMAP. */
const DIRTY_RING = 223;
const RING_WITH_BITMAP = 225;
/** sizeof(struct kvm_dirty_gfn). @source linux/kvm.h */
const RING_ENTRY_BYTES = 16;

interface Built {
  readonly images: BoardImages;
  readonly at: Layout;
  readonly ramObject: number;
}

/** Where what a guest says goes. */
export interface Outside {
  /** A byte for the console. */
  readonly sent: (byte: number) => void;
  /** Its testdev ends it. */
  readonly exit: (code: number) => void;
}

export class Hardware {
  readonly definition: BoardDefinition;
  readonly devices = new Devices();
  readonly interrupts: Interrupts;
  readonly memory: GuestMemory;
  readonly uart: Pl011;
  readonly #rtc: Pl031 | null;
  readonly #kvm: Kvm;
  readonly #seed: bigint;
  readonly #outside: Outside;
  /** The console that is typed to while its driver is there. */
  #port: ConsolePort | null = null;
  #flash: Flash | null = null;
  #resetGic = () => {};
  #isBuilding = false;
  #built: Built | null = null;
  #unassigned = 0;
  #lastUnassigned: bigint | null = null;

  constructor(definition: BoardDefinition, kvm: Kvm, seed: bigint, outside: Outside) {
    this.definition = definition;
    this.#outside = outside;
    this.memory = new GuestMemory(kvm, definition.memoryMiB * MIB);
    this.#kvm = kvm;
    this.#seed = seed;
    this.interrupts = new Interrupts(kvm, definition.gic);
    const time = new TimeOfDay(kvm.vm, seed);
    const { devices, interrupts } = this;
    this.uart = devices.add(new Pl011(outside.sent, interrupts.spi(SPI.uart)));
    if (definition.pci === true) plugPcie(devices);
    const hasRtc = definition.rtc === true;
    this.#rtc = hasRtc ? devices.add(new Pl031(time, interrupts.spi(SPI.rtc))) : null;
  }

  get isBuilt(): boolean {
    return this.#built !== null;
  }

  /** Where things are in memory; null before there is any. */
  get layout(): Layout | null {
    return this.#built?.at ?? null;
  }

  /** Accesses where no device is. */
  get unassigned(): { readonly count: number; readonly last: bigint | null } {
    return { count: this.#unassigned, last: this.#lastUnassigned };
  }

  /** @throws ServiceError "board-state", "image-format", "image-does-not-fit"; KvmError ENOMEM */
  *build(images: BoardImages): Op<void> {
    if (this.#isBuilding) throw new ServiceError("board-state", "The board has its image already.");
    const { memoryMiB, vcpus } = this.definition;
    const at = placeAll(images, memoryMiB);
    const { vm, regions } = this.#kvm;
    yield* this.#enableRings();
    this.#isBuilding = true;
    this.#chargeImages(images);
    const size = BigInt(memoryMiB * MIB);
    const ram = vm.mm.map({ size, userspaceAddr: null, backing: "ram", hugePages: true });
    this.memory.attach(ram);
    this.#plug(images);
    yield* regions.set(this.#ramRegion(BigInt(ram.userspaceAddr), 0), true);
    yield* this.settle();
    for (let id = 0; id < vcpus; id++) createVcpu(vm, id);
    this.#resetGic = createGic(this.#kvm, this.definition);
    this.#built = { images, at, ramObject: ram.id };
    if (images.leaveRam !== true) this.#fill();
    this.#reset();
  }

  /** With a bitmap beside them, for what no vCPU writes. @throws KvmError EINVAL, E2BIG */
  *#enableRings(): Op<void> {
    const { dirtyRingEntries: entries } = this.definition;
    const { vm } = this.#kvm;
    if (entries === undefined || vm.caps.dirtyRingBytes !== 0) return;
    const steps = enableCap(vm, DIRTY_RING, 0, [BigInt(entries * RING_ENTRY_BYTES)]);
    if (steps !== null) yield* steps;
    enableCap(vm, RING_WITH_BITMAP, 0, []);
  }

  /** Devices that need the images' bytes, or memory. */
  #plug({ image, initrd, firmware, disk }: BoardImages): void {
    const { definition, devices, interrupts, memory } = this;
    const { account } = this.#kvm.vm;
    this.#port = plugVirtio(definition, {
      devices,
      interrupts,
      memory,
      disk: disk ?? new Uint8Array(0),
      seed: this.#seed,
      charge: (bytes) => account.charge(bytes),
      ...this.#outside,
    });
    if (firmware === undefined || firmware === null) return;
    const { vcpus: cpus, cmdline } = definition;
    devices.add(new FwCfg({ cpus, cmdline, kernel: image, initrd }, memory));
    this.#flash = new Flash(this.#kvm, firmware);
    for (const { chips } of this.#flash.banks) devices.add(chips);
  }

  /** Ids of memory objects that are the board's: RAM, flash. */
  get memoryObjects(): readonly number[] {
    const flash = this.#flash?.banks.map(({ object }) => object.id) ?? [];
    return this.#built === null ? [] : [this.#built.ramObject, ...flash];
  }

  /** What a device asked of the memory map is done before its vCPU goes on. */
  *settle(): Op<void> {
    if (this.#flash !== null && !this.#flash.isSettled) yield* this.#flash.settle();
  }

  /** Bytes typed that the guest has not taken. */
  get backlog(): number {
    return this.uart.backlog + (this.#port?.device.backlog ?? 0);
  }

  /** @returns whether there was room for the bytes; all or nothing */
  type(bytes: Uint8Array): boolean {
    const port = this.#port;
    if (port === null || !port.transport.isUp) return this.uart.type(bytes);
    const isTaken = port.device.type(bytes);
    port.transport.notify(0);
    return isTaken;
  }

  #chargeImages({ image, initrd, firmware, disk }: BoardImages): void {
    const kept = [image, initrd, firmware, disk];
    const bytes = kept.reduce((sum, each) => sum + (each?.length ?? 0), 0);
    if (this.#kvm.vm.account.charge(bytes)) return;
    const why = `no room to keep the image, ${bytes} bytes, for a reset`;
    throw new KvmError("ENOMEM", "mmap", why);
  }

  /** KVM_MEM_LOG_DIRTY_PAGES of the board's RAM. */
  *setLogging(on: boolean): Op<void> {
    const { vm, regions } = this.#kvm;
    const ram = vm.mm.byId(this.#built?.ramObject ?? -1);
    assert(ram !== undefined, "a board keeps its RAM");
    yield* regions.set(this.#ramRegion(BigInt(ram.userspaceAddr), on ? LOG_DIRTY_PAGES : 0), true);
    this.memory.setLogging(on);
  }

  #ramRegion(userspaceAddr: bigint, flags: number) {
    return {
      slot: RAM_SLOT,
      flags,
      guestPhysAddr: BigInt(RAM_BASE),
      memorySize: BigInt(this.definition.memoryMiB * MIB),
      userspaceAddr,
      guestMemfd: 0,
      guestMemfdOffset: 0n,
    };
  }

  /** Power-on state of everything but RAM, which keeps what is not written over. */
  powerOn(): void {
    this.#fill();
    this.#reset();
  }

  /** Image, initrd and device tree into RAM. */
  #fill(): void {
    const { vm } = this.#kvm;
    assert(this.#built !== null, "a board that runs has its image");
    const { images, at } = this.#built;
    const tree = deviceTree({
      board: this.definition,
      initrd: at.initrd,
      cpus: vm.vcpus.map((vcpu) => vcpu.mpidr),
      seed: this.#seed,
    });
    for (const { at: address, from, bytes, zeros } of at.segments) {
      const { image } = images;
      if (image === null) break;
      writeGuest(this.#kvm, BigInt(address), image.subarray(from, from + bytes));
      // A kernel clears its own.
      if (at.format === "elf") this.#clear(address + bytes, zeros);
    }
    if (at.initrd !== null && images.initrd !== null) {
      writeGuest(this.#kvm, BigInt(at.initrd.start), images.initrd);
    }
    writeGuest(this.#kvm, BigInt(at.dtb), tree);
  }

  #reset(): void {
    const { vm } = this.#kvm;
    assert(this.#built !== null, "a board that runs has its image");
    const { at } = this.#built;
    this.devices.reset();
    this.#resetGic();
    for (const vcpu of vm.vcpus) this.#resetVcpu(vcpu, at);
    this.interrupts.driveAll();
  }

  #clear(from: number, bytes: number): void {
    for (let at = 0; at < bytes; at += MIB) {
      const zeros = new Uint8Array(Math.min(MIB, bytes - at));
      writeGuest(this.#kvm, BigInt(from + at), zeros);
    }
  }

  #resetVcpu(vcpu: Vcpu, at: Layout): void {
    const { vm } = this.#kvm;
    const isFirst = vcpu.index === 0;
    armVcpuInit(vm, vcpu, TARGET_GENERIC_V8, [FEATURES | (isFirst ? 0 : POWER_OFF)]);
    if (!vcpu.pmuCreated) {
      if (this.definition.gic !== undefined) {
        setVcpuAttr(vm, vcpu, PMU_GROUP, PMU_IRQ, u32Bytes(PMU_INTID));
      }
      setVcpuAttr(vm, vcpu, PMU_GROUP, PMU_INIT, new Uint8Array(0));
    }
    if (!isFirst) return;
    // The reset left X1 to X3 zero and EL1h with DAIF masked.
    setOneReg(vm, vcpu, PC, u64Bytes(at.entry));
    setOneReg(vm, vcpu, X0, u64Bytes(at.dtb));
  }

  /** The vCPUs begin to run, or have stopped. */
  setRunning(isRunning: boolean): void {
    this.#rtc?.setRunning(isRunning);
  }

  /** @returns what a load reads: zeros where no device is */
  mmio({ physAddr, data, isWrite, len }: NonNullable<RunOutcome["mmio"]>): Uint8Array | null {
    const address = Number(physAddr);
    if (isWrite) {
      if (!this.devices.writeAt(address, data)) this.#missed(physAddr);
      return null;
    }
    const loaded = this.devices.readAt(address, len);
    if (loaded === null) this.#missed(physAddr);
    return loaded ?? new Uint8Array(len);
  }

  #missed(physAddr: bigint): void {
    this.#unassigned++;
    this.#lastUnassigned = physAddr;
  }

  save(): Saved {
    const data = {
      unassigned: this.#unassigned,
      lastUnassigned: this.#lastUnassigned,
      devices: this.devices.save(),
      interrupts: this.interrupts.save(),
      memory: this.memory.save(),
      flash: this.#flash?.save() ?? null,
    };
    return { kind: "hardware", version: 1, data };
  }

  load(saved: Saved): void {
    const data = saved.data as {
      unassigned: number;
      lastUnassigned: bigint | null;
      devices: Saved;
      interrupts: Saved;
      memory: Saved;
      flash: Saved | null;
    };
    this.#unassigned = data.unassigned;
    this.#lastUnassigned = data.lastUnassigned;
    this.interrupts.load(data.interrupts);
    this.devices.load(data.devices);
    this.memory.load(data.memory);
    if (data.flash !== null) this.#flash?.load(data.flash);
  }
}

/** @throws ServiceError "image-format", "image-does-not-fit" */
function placeAll({ image, initrd, firmware }: BoardImages, memoryMiB: number): Layout {
  if (firmware !== undefined && firmware !== null) return firmwareLayout(firmware);
  return layout(image ?? new Uint8Array(0), initrd?.length ?? 0, memoryMiB);
}

function u64Bytes(value: number): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(value), true);
  return bytes;
}

function u32Bytes(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}
