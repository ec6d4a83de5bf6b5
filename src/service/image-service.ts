// Owns: images: uploaded once, kept beside the database, named by VMs with a board. HTTP thread.
import { webcrypto } from "node:crypto";
import { type Clock, timestamp } from "../base/clock.js";
import { ServiceError } from "../base/errors.js";
import type { CommandArgs } from "../runtime/index.js";
import type { ImageRecord, Store } from "../store/index.js";
import { ChangeQueue } from "./change-queue.js";
import { cursorOfName, readNameCursor } from "./cursor.js";
import type { EventLog } from "./event-log.js";
import { ImageCache } from "./image-cache.js";
import { IMAGE_NAME_MAX, IMAGES_MAX } from "./limits.js";
import type { Recorder } from "./recorder.js";
import type {
  BoardDefinition,
  ImageCondition,
  ImageRef,
  ImageResource,
  ImageService,
  Page,
} from "./services.js";
import type { VmRegistry } from "./vm-registry.js";

interface Deps {
  readonly store: Store;
  readonly recorder: Recorder;
  readonly registry: VmRegistry;
  readonly events: EventLog;
  readonly clock: Clock;
}

export class Images implements ImageService {
  readonly #deps: Deps;
  readonly #byName: Map<string, ImageRecord>;
  /** Changes go one after the other, so that a file is never removed while it is written. */
  readonly #changes = new ChangeQueue();
  readonly #cache: ImageCache;
  /** Names that VMs under creation refer to, with how many do. */
  readonly #pins = new Map<string, number>();
  /** Says who else needs the bytes of a hash. */
  #neededBy: (sha256: string) => string | null = () => null;

  private constructor(deps: Deps, records: readonly ImageRecord[]) {
    this.#deps = deps;
    this.#byName = new Map(records.map((record) => [record.name, record]));
    this.#cache = new ImageCache(deps.store.imageFiles, hash);
  }

  /** Reads the records and removes what a crash left of files. */
  static async open(deps: Deps): Promise<Images> {
    const images = new Images(deps, await deps.store.loadImages());
    await images.#sweep();
    return images;
  }

  async list(limit: number, cursor: string | null): Promise<Page<ImageResource>> {
    const after = cursor === null ? "" : readNameCursor(cursor);
    const names = [...this.#byName.keys()].filter((name) => name > after).sort();
    const items = names.slice(0, limit).map((name) => this.#require(name));
    const last = items.at(-1);
    const isLast = names.length <= limit || last === undefined;
    return { items, nextCursor: isLast ? null : cursorOfName(last.name) };
  }

  async get(name: string): Promise<ImageResource> {
    return this.#require(name);
  }

  async content(name: string): Promise<Uint8Array> {
    return this.#bytes(this.#require(name));
  }

  put(
    name: string,
    bytes: Uint8Array,
    condition: ImageCondition,
  ): Promise<{ image: ImageResource; created: boolean }> {
    return this.#changes.run(async () => {
      const old = this.#byName.get(name) ?? null;
      checkCondition(name, old, condition);
      const sha256 = await hash(bytes);
      if (old?.sha256 === sha256) return { image: old, created: false };
      if (old !== null) this.#refuseInUse(old);
      else if (this.#byName.size >= IMAGES_MAX) {
        throw new ServiceError("image-limit", `There are ${IMAGES_MAX} images: delete some first.`);
      }
      const { store, recorder, clock, events } = this.#deps;
      const now = timestamp(clock);
      const image: ImageRecord = {
        name,
        sha256,
        size: bytes.length,
        version: (old?.version ?? 0) + 1,
        createdAt: old?.createdAt ?? now,
        updatedAt: now,
      };
      // First the bytes: a record without them would be a lie.
      await this.#written(() => store.imageFiles.write(sha256, bytes));
      await recorder.commit([{ kind: "put-image", image }]);
      this.#byName.set(name, image);
      await this.#sweep();
      const type = old === null ? "image.created" : "image.replaced";
      events.announce(type, `images/${name}`, { sha256, size: bytes.length });
      return { image, created: old === null };
    });
  }

  delete(name: string, ifMatch: readonly number[] | null): Promise<void> {
    return this.#changes.run(async () => {
      const image = this.#require(name);
      checkCondition(name, image, { ifMatch, onlyNew: false });
      this.#refuseInUse(image);
      await this.#deps.recorder.commit([{ kind: "delete-image", name }]);
      this.#byName.delete(name);
      await this.#sweep();
      this.#deps.events.announce("image.deleted", `images/${name}`, { sha256: image.sha256 });
    });
  }

  /**
   * Refers to an image for a VM that is being created; it stays until `release`.
   * @throws ServiceError "image-unknown"
   */
  pin(name: string): { readonly ref: ImageRef; release(): void } {
    const image = this.#byName.get(name);
    if (image === undefined) {
      throw new ServiceError("image-unknown", `There is no image ${name}: upload it first.`);
    }
    this.#pins.set(name, (this.#pins.get(name) ?? 0) + 1);
    const { sha256, size } = image;
    return {
      ref: { name, sha256, size },
      release: () => this.#pins.set(name, (this.#pins.get(name) ?? 1) - 1),
    };
  }

  /** @param find who needs the bytes of a hash, beside VMs; null: nobody */
  alsoNeededBy(find: (sha256: string) => string | null): void {
    this.#neededBy = find;
  }

  /** What a board loads. @throws ServiceError "image-lost" */
  async of({ image, initrd, firmware, disk }: BoardDefinition): Promise<CommandArgs<"loadBoard">> {
    const bytes = (ref: ImageRef | null) => (ref === null ? null : this.#bytes(ref));
    return {
      image: await bytes(image),
      initrd: await bytes(initrd),
      ...(firmware === undefined ? {} : { firmware: await this.#bytes(firmware) }),
      ...(disk === undefined ? {} : { disk: await this.#bytes(disk) }),
    };
  }

  /** @returns this host's name of the image with that hash; null: it has none */
  nameOf(sha256: string): string | null {
    for (const image of this.#byName.values()) if (image.sha256 === sha256) return image.name;
    return null;
  }

  /** @throws ServiceError "image-lost" */
  async withHash(sha256: string): Promise<{ readonly name: string; readonly bytes: Uint8Array }> {
    const image = [...this.#byName.values()].find((one) => one.sha256 === sha256);
    if (image !== undefined) return { name: image.name, bytes: await this.#bytes(image) };
    throw new ServiceError("image-lost", `No image has the hash ${sha256} any more.`);
  }

  /**
   * Takes an image for a VM that moves here, under its name, or under one of its hash where that
   * is another image's.
   * @throws ServiceError "image-hash", "image-limit"
   */
  async receive(sha256: string, name: string, bytes: Uint8Array): Promise<void> {
    const found = await hash(bytes);
    if (found !== sha256) {
      throw new ServiceError("image-hash", `The bytes have the hash ${found}, not ${sha256}.`);
    }
    if (this.nameOf(sha256) !== null) return;
    const own = this.#byName.has(name) ? `${sha256}-${name}`.slice(0, IMAGE_NAME_MAX) : name;
    await this.put(own, bytes, { ifMatch: null, onlyNew: false });
  }

  async #bytes(ref: ImageRef): Promise<Uint8Array> {
    const bytes = await this.#cache.read(ref.sha256);
    if (bytes !== null && bytes !== "changed") return bytes;
    const how = bytes === null ? "is missing" : "was changed";
    throw new ServiceError(
      "image-lost",
      `The file of image ${ref.name}, ${ref.sha256}, ${how}: upload it again.`,
    );
  }

  #require(name: string): ImageRecord {
    const image = this.#byName.get(name);
    if (image !== undefined) return image;
    throw new ServiceError("image-not-found", `There is no image ${name}.`);
  }

  #refuseInUse({ name, sha256 }: ImageRecord): void {
    const needs = this.#neededBy(sha256);
    if (needs !== null) {
      throw new ServiceError("image-in-use", `${needs} needs image ${name}: delete it first.`);
    }
    const user = this.#deps.registry.all().find(({ definition: { board }, isDeleted }) => {
      const { image, initrd, firmware, disk } = board ?? {};
      return !isDeleted && [image, initrd, firmware, disk].some((ref) => ref?.name === name);
    });
    if (user === undefined && (this.#pins.get(name) ?? 0) === 0) return;
    const vm = user === undefined ? "A VM under creation" : `VM ${user.id}`;
    throw new ServiceError("image-in-use", `${vm} refers to image ${name}: delete it first.`);
  }

  /** Files that no record names go. */
  async #sweep(): Promise<void> {
    const hashes = new Set([...this.#byName.values()].map(({ sha256 }) => sha256));
    await this.#written(() => this.#deps.store.imageFiles.keep(hashes));
  }

  async #written(write: () => Promise<void>): Promise<void> {
    try {
      await write();
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      const why = `The image's file can't be written: ${code ?? message}.`;
      throw new ServiceError("store-unavailable", why);
    }
  }
}

async function hash(bytes: Uint8Array): Promise<string> {
  const digest = await webcrypto.subtle.digest("SHA-256", bytes);
  return Buffer.from(digest).toString("hex");
}

function checkCondition(name: string, old: ImageRecord | null, condition: ImageCondition): void {
  const { ifMatch, onlyNew } = condition;
  const fails = onlyNew
    ? old !== null
    : ifMatch !== null && (old === null || !ifMatch.includes(old.version));
  if (!fails) return;
  const has = old === null ? "does not exist" : `has version ${old.version}`;
  throw new ServiceError("precondition-failed", `Image ${name} ${has}: read it again.`);
}
