// Owns: the image service in a map, for tests of the HTTP face alone.
import { createHash } from "node:crypto";
import { ServiceError } from "../../src/base/errors.js";
import type { ImageResource, ImageService } from "../../src/service/index.js";

const NOW = "2026-11-20T12:00:00.000Z";

export function fakeImages(): ImageService {
  const kept = new Map<string, { image: ImageResource; bytes: Uint8Array }>();
  const require = (name: string) => {
    const found = kept.get(name);
    if (found !== undefined) return found;
    throw new ServiceError("image-not-found", `There is no image ${name}.`);
  };
  const match = (name: string, versions: readonly number[] | null) => {
    const version = kept.get(name)?.image.version ?? -1;
    if (versions === null || versions.includes(version)) return;
    throw new ServiceError("precondition-failed", "The image has changed.");
  };
  return {
    list: async (limit) => ({
      items: [...kept.values()].slice(0, limit).map(({ image }) => image),
      nextCursor: null,
    }),
    get: async (name) => require(name).image,
    content: async (name) => require(name).bytes.slice(),
    put: async (name, bytes, { ifMatch, onlyNew }) => {
      match(name, ifMatch);
      const old = kept.get(name);
      if (onlyNew && old !== undefined) match(name, []);
      const sha256 = createHash("sha256").update(bytes).digest("hex");
      const version = (old?.image.version ?? 0) + 1;
      const image = {
        ...{ name, sha256, size: bytes.length, version },
        ...{ createdAt: NOW, updatedAt: NOW },
      };
      kept.set(name, { image, bytes });
      return { image, created: old === undefined };
    },
    delete: async (name, versions) => {
      require(name);
      match(name, versions);
      kept.delete(name);
    },
  };
}
