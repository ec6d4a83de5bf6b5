// Owns: which virtio devices a board has, and at which transport each is. VM thread.
//
//   transport 0 disk   1 console   2 rng; the others are empty, and nobody is told of them
import type { BoardDefinition } from "../../definition.js";
import type { Devices } from "../device.js";
import type { GuestMemory } from "../guest-memory.js";
import type { Interrupts } from "../interrupts.js";
import { SPI, VIRTIO } from "../memory-map.table.js";
import { VirtioBlk } from "./blk.js";
import { Testdev, VirtioConsole } from "./console.js";
import type { VirtioDevice } from "./device.js";
import { Disk } from "./disk.js";
import { VirtioRng } from "./rng.js";
import { VirtioMmio } from "./transport.js";

const AT = { disk: 0, console: 1, rng: 2 } as const;

/** Transports that have a device, by number. */
export function virtioTransports(board: BoardDefinition): readonly number[] {
  const { disk, rng } = board;
  return [
    ...(disk === undefined ? [] : [AT.disk]),
    ...(board["console"] === undefined ? [] : [AT.console]),
    ...(rng === undefined ? [] : [AT.rng]),
  ];
}

/** A virtio-console and the transport that has to hear of what is typed. */
export interface ConsolePort {
  readonly device: VirtioConsole;
  readonly transport: VirtioMmio;
}

interface Parts {
  readonly devices: Devices;
  readonly interrupts: Interrupts;
  readonly memory: GuestMemory;
  readonly disk: Uint8Array;
  readonly seed: bigint;
  charge(bytes: number): boolean;
  sent(byte: number): void;
  exit(code: number): void;
}

/** @returns what can be typed to; null without a console of that kind */
export function plugVirtio(definition: BoardDefinition, parts: Parts): ConsolePort | null {
  const plugged = new Map<number, VirtioDevice>();
  if (definition.disk !== undefined) {
    plugged.set(AT.disk, new VirtioBlk(new Disk(parts.disk, parts.charge)));
  }
  if (definition.rng !== undefined) plugged.set(AT.rng, new VirtioRng(parts.seed));
  const isTestdev = definition.console === "testdev";
  const device = new VirtioConsole(parts.sent, isTestdev ? new Testdev(parts.exit) : null);
  if (definition.console !== undefined) plugged.set(AT.console, device);
  if (plugged.size === 0) return null;
  const isLegacy = definition.virtio === "legacy";
  const { devices, memory, interrupts } = parts;
  const transports = Array.from({ length: VIRTIO.count }, (_, at) => {
    const irq = interrupts.spi(SPI.virtio + at);
    return devices.add(new VirtioMmio(at, plugged.get(at) ?? null, { memory, irq, isLegacy }));
  });
  const transport = transports[AT.console];
  if (definition.console !== "virtio" || transport === undefined) return null;
  return { device, transport };
}
