// Owns: commands around assigned devices, as types. Part of VmCommands. Any thread.
import type { EventfdFound } from "../../base/eventfd-counters.js";
import type { EventfdRef } from "../eventfd-ref.js";

export interface AssignedDeviceView {
  /** Number in the VM, by order of assignment. */
  readonly id: number;
  readonly base: bigint;
  /** Level of the device's line. */
  readonly isHigh: boolean;
  /** VFIO has masked its interrupt on the host. */
  readonly isMasked: boolean;
  /** Interrupts that the host took of it, and how often it was unmasked. */
  readonly interrupts: number;
  readonly unmasks: number;
}

export interface AssignedCommands {
  /** @param isHigh its line as whoever had it before left it */
  assignDevice: [
    {
      base: bigint;
      trigger: EventfdRef;
      unmask: EventfdRef;
      isHigh: boolean;
      drain: boolean;
      found: EventfdFound | null;
    },
    AssignedDeviceView,
  ];
  listAssignedDevices: [Record<string, never>, readonly AssignedDeviceView[]];
  /** What happens outside: the device has something to say. */
  raiseAssignedDevice: [{ id: number; drain: boolean }, AssignedDeviceView];
  /** VFIO lets go of it; its line stays as it is. */
  releaseDevice: [{ id: number; drain: boolean }, AssignedDeviceView];
}
