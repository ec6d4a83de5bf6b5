// Owns: the images that a board of a new VM names, found and held while it is made. HTTP thread.
import type { Images } from "./image-service.js";
import type { BoardDefinition, BoardSpec } from "./services.js";

/**
 * Finds what a board names.
 * @throws ServiceError "image-unknown"
 */
export function pinBoard(
  images: Images,
  spec: BoardSpec | null,
): { readonly board: BoardDefinition; release(): void } | null {
  if (spec === null) return null;
  const image = images.pin(spec.image);
  try {
    const initrd = spec.initrd === null ? null : images.pin(spec.initrd);
    const { cmdline, memoryMiB, vcpus } = spec;
    return {
      board: { image: image.ref, initrd: initrd?.ref ?? null, cmdline, memoryMiB, vcpus },
      release: () => {
        image.release();
        initrd?.release();
      },
    };
  } catch (error) {
    image.release();
    throw error;
  }
}
