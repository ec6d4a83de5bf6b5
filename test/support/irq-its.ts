// Owns: an ITS of an inline VM with a GICv3, driven by its guest: registers by MMIO, commands in a
// queue in guest memory that the guest itself writes. Test process.
import type { KvmDevice } from "../../src/kvm/vgic/device-port.js";
import { type IrqOptions, IrqVm } from "./irq-case.js";
import { bytes, CTRL_INIT, GROUP } from "./irq-uapi.js";
import {
  COMMAND,
  COMMAND_BYTES,
  type Command,
  DOORBELL,
  enableLpis,
  ITS_BASE,
  issue,
  QUEUE_BYTES,
  readGits,
  setProperty,
  setUpTables,
  turn,
} from "./its-code.js";

const TYPE = 8;
const ITS_ADDR = 4n;
export const ITS_REGS = 8;

export interface Message {
  readonly address?: number;
  readonly event: number;
  readonly device: number | null;
}

export class Its {
  readonly vm: IrqVm;
  readonly device: KvmDevice;
  #writer = 0;

  /** A VM whose guest has set up ITS and LPIs. */
  static inNewVm(options: IrqOptions = {}): Its {
    const made: Its[] = [];
    new IrqVm("v3", { ...options, beforeRun: (vm) => void made.push(new Its(vm)) });
    const its = made[0]!;
    its.setUp();
    return its;
  }

  constructor(vm: IrqVm) {
    this.vm = vm;
    this.device = vm.create(TYPE);
    this.device.set(GROUP.ADDR, ITS_ADDR, bytes(ITS_BASE, 8));
    this.device.set(GROUP.CTRL, CTRL_INIT, new Uint8Array(0));
  }

  setUp(): void {
    for (const { index } of this.vm.cpus) this.vm.cpu.exec(...enableLpis(index));
    this.vm.cpu.exec(...setUpTables());
    this.turn(true);
  }
  turn(isOn: boolean): void {
    this.vm.cpu.exec(...turn(isOn));
  }
  get(register: number): bigint {
    return this.vm.cpu.exec(...readGits(register));
  }
  /** The guest writes a command and tells the ITS. */
  command(command: Command): void {
    this.vm.cpu.exec(...issue(this.#writer, command));
    this.#writer = (this.#writer + COMMAND_BYTES) % QUEUE_BYTES;
  }
  mapDevice(...args: Parameters<typeof COMMAND.mapDevice>): void {
    this.command(COMMAND.mapDevice(...args));
  }
  mapCollection(...args: Parameters<typeof COMMAND.mapCollection>): void {
    this.command(COMMAND.mapCollection(...args));
  }
  mapEvent(...args: Parameters<typeof COMMAND.mapEvent>): void {
    this.command(COMMAND.mapEvent(...args));
  }
  discard(device: number, event: number): void {
    this.command(COMMAND.discard(device, event));
  }
  interrupt(device: number, event: number): void {
    this.command(COMMAND.interrupt(device, event));
  }
  invalidate(device: number, event: number): void {
    this.command(COMMAND.invalidate(device, event));
  }
  invalidateAll(collection: number): void {
    this.command(COMMAND.invalidateAll(collection));
  }
  enableLpi(lpi: number, isEnabled = true): void {
    this.vm.cpu.exec(...setProperty(lpi, isEnabled));
  }

  msi({ address = DOORBELL, event, device }: Message) {
    const flags = device === null ? 0 : 1;
    return { addressLo: address, addressHi: 0, data: event, flags, devid: device ?? 0 };
  }
  /** KVM_SIGNAL_MSI. */
  signalMsi(message: Message): number {
    return this.vm.call("signalMsi", this.msi(message)).delivered;
  }
}
