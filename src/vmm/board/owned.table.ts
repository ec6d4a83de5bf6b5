// Owns: which commands a VM with a board refuses: what they would change is the board's (DESIGN
// 10). Looking at it stays free, and so does what a client adds beside it. VM thread.
import { ServiceError } from "../../base/errors.js";
import { KVM_DEV_TYPE, type Kvm } from "../../kvm/index.js";
import type { Command, CommandArgs, CommandName } from "../commands.js";
import type { Board } from "./board.js";
import { FLASH_SLOTS } from "./flash.js";
import { RAM_SLOT } from "./hardware.js";

export function isOwnSlot({ slot }: { slot: number }, { hardware }: Board): boolean {
  const isFlash = FLASH_SLOTS.some((own) => own === slot);
  return slot === RAM_SLOT || (isFlash && hardware.definition.firmware !== undefined);
}

const OWNED: {
  readonly [K in CommandName]?: (args: CommandArgs<K>, board: Board, kvm: Kvm) => boolean;
} = {
  run: () => true,
  runVcpus: () => true,
  createVcpu: () => true,
  vcpuInit: () => true,
  setOneReg: () => true,
  setRegs: () => true,
  setSignalMask: () => true,
  setMpState: () => true,
  setVcpuAttr: () => true,
  setCounterOffset: () => true,
  irqLine: () => true,
  irqLineStatus: () => true,
  createDevice: ({ type }) => type !== KVM_DEV_TYPE.VFIO,
  createIrqchip: () => true,
  setDeviceAddr: () => true,
  setDeviceAttr: ({ device }, _board, kvm) => isInterruptDevice(device, kvm),
  setProgram: () => true,
  setUserMemoryRegion: isOwnSlot,
  setUserMemoryRegion2: isOwnSlot,
  deleteMemoryObject: ({ id }, board) => board.hardware.memoryObjects.includes(id),
};

/** All but VFIO's are of the board's making. */
function isInterruptDevice(device: number, { vm }: Kvm): boolean {
  const type = vm.devices[device]?.type;
  return type !== undefined && type !== KVM_DEV_TYPE.VFIO;
}

/** @throws ServiceError "owned-by-board" */
export function refuseOwned(board: Board, kvm: Kvm, { name, args }: Command): void {
  const owned = OWNED[name] as ((args: unknown, board: Board, kvm: Kvm) => boolean) | undefined;
  if (owned?.(args, board, kvm) !== true) return;
  throw new ServiceError(
    "owned-by-board",
    `The VM has a board, and ${name} would change what is the board's: use its actions.`,
  );
}
