// Owns: files that become images of the host, a long one with a bar. CLI process.
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import type { Client } from "./client.js";
import type { Cleanup, Terminal } from "./ending.js";
import { Failure } from "./failure.js";

const MIB = 2 ** 20;
/** A shorter upload is over before anyone reads. */
const BAR_BYTES_MIN = 4 * MIB;
const BAR_CELLS = 30;
const DIGEST_DIGITS = 32; // tidy: hex digits
const ERASE_LINE = "\r\x1b[K";

async function readImage(path: string): Promise<Uint8Array> {
  try {
    return new Uint8Array(await readFile(path));
  } catch (error) {
    throw new Failure(`${path} can't be read: ${(error as Error).message}.`);
  }
}

/** What a bar looks like with `sent` of `size` bytes on their way. */
export function bar(name: string, sent: number, size: number): string {
  const cells = Math.floor((sent / size) * BAR_CELLS);
  const drawn = "#".repeat(cells).padEnd(BAR_CELLS, ".");
  const mib = (bytes: number) => (bytes / MIB).toFixed(1);
  return `${name} [${drawn}] ${mib(sent)} of ${mib(size)} MiB`;
}

/**
 * @param path a file
 * @param cleanup takes the image back, unless it was there before
 * @returns the image's name, by its content: the same file twice is one image
 */
export async function upload(
  client: Client,
  path: string,
  cleanup: Cleanup,
  terminal: Terminal,
): Promise<string> {
  const bytes = await readImage(path);
  const digest = createHash("sha256").update(bytes).digest("hex");
  const name = `run-${digest.slice(0, DIGEST_DIGITS)}`;
  const isNew = await client.call("getImage", { image: name }).then(
    () => false,
    () => true,
  );
  const { draw } = terminal;
  if (!isNew || draw === null || bytes.length < BAR_BYTES_MIN) {
    await client.call("putImage", { image: name }, bytes);
  } else {
    const show = (sent: number) => draw(`${ERASE_LINE}${bar(path, sent, bytes.length)}`);
    await client.upload("putImage", { image: name }, bytes, show).finally(() => draw(ERASE_LINE));
  }
  if (isNew) cleanup.add(() => client.call("deleteImage", { image: name }));
  return name;
}
