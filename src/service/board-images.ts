// Owns: the images that a board of a new VM names, found and held while it is made. HTTP thread.
import type { Images } from "./image-service.js";
import type { BoardDefinition, BoardSpec, ImageRef } from "./services.js";

/**
 * Finds what a board names.
 * @throws ServiceError "image-unknown"
 */
export function pinBoard(
  images: Images,
  spec: BoardSpec | null,
): { readonly board: BoardDefinition; release(): void } | null {
  if (spec === null) return null;
  const pins: { release(): void }[] = [];
  const release = (): void => {
    for (const pin of pins) pin.release();
  };
  const refTo = (name: string): ImageRef => {
    const pin = images.pin(name);
    pins.push(pin);
    return pin.ref;
  };
  try {
    const { cmdline, memoryMiB, vcpus, firmware, disk, devices } = spec;
    const board: BoardDefinition = {
      image: spec.image === null ? null : refTo(spec.image),
      initrd: spec.initrd === null ? null : refTo(spec.initrd),
      cmdline,
      memoryMiB,
      vcpus,
      ...devices,
      ...(disk === undefined ? {} : { disk: refTo(disk) }),
      ...(firmware === undefined ? {} : { firmware: refTo(firmware) }),
    };
    return { board, release };
  } catch (error) {
    release();
    throw error;
  }
}
