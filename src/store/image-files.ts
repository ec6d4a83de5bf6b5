// Owns: the bytes of images as files named by their hash, beside the database. HTTP thread.
// A file is complete under its name or not there: it is written under another, synced and renamed.
import { mkdir, open, readdir, readFile, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";

const PARTIAL = ".partial";

export class ImageFiles {
  readonly #folder: string;

  constructor(folder: string) {
    this.#folder = folder;
  }

  /** Durable when it resolves. */
  async write(sha256: string, bytes: Uint8Array): Promise<void> {
    await mkdir(this.#folder, { recursive: true });
    const path = join(this.#folder, sha256);
    const file = await open(`${path}${PARTIAL}`, "w");
    try {
      await file.writeFile(bytes);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(`${path}${PARTIAL}`, path);
    const folder = await open(this.#folder, "r");
    try {
      await folder.sync();
    } finally {
      await folder.close();
    }
  }

  /** @returns bytes of their own memory, which may move; null when there is no such file */
  async read(sha256: string): Promise<Uint8Array | null> {
    try {
      return Uint8Array.from(await readFile(join(this.#folder, sha256)));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
      throw error;
    }
  }

  /** Changes when the file does; null: there is none. */
  async stamp(sha256: string): Promise<string | null> {
    try {
      const { ino, size, mtimeMs, ctimeMs } = await stat(join(this.#folder, sha256));
      return [ino, size, mtimeMs, ctimeMs].join(" ");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
      throw error;
    }
  }

  /** Removes every file but these. */
  async keep(hashes: ReadonlySet<string>): Promise<void> {
    await mkdir(this.#folder, { recursive: true });
    for (const name of await readdir(this.#folder)) {
      if (!hashes.has(name)) await rm(join(this.#folder, name), { force: true });
    }
  }
}
