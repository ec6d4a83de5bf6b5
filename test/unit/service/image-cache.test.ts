// Goal: an image is read and checked once, and again when its file has changed.
// Method: real files.
import { createHash } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { ImageCache } from "../../../src/service/image-cache.js";
import { IMAGE_CACHE_BYTES } from "../../../src/service/limits.js";
import { ImageFiles } from "../../../src/store/image-files.js";

const sha = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");
let folder = "";
let hashed = 0;
let files = new ImageFiles(folder);
let cache = new ImageCache(files, async (bytes) => sha(bytes));

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "tidemark-images-"));
  hashed = 0;
  files = new ImageFiles(folder);
  cache = new ImageCache(files, async (bytes) => {
    hashed += 1;
    return sha(bytes);
  });
});
afterEach(() => rmSync(folder, { recursive: true }));

async function put(bytes: Uint8Array): Promise<string> {
  await files.write(sha(bytes), bytes);
  return sha(bytes);
}

test("is read once for all who ask, in memory that threads share", async () => {
  const hash = await put(Uint8Array.of(1, 2, 3));
  const first = await cache.read(hash);
  expect(first).toEqual(Uint8Array.of(1, 2, 3));
  expect(await cache.read(hash)).toBe(first);
  expect((first as Uint8Array).buffer).toBeInstanceOf(SharedArrayBuffer);
  expect(hashed).toBe(1);
});

test("knows a file that has changed, and one that is gone", async () => {
  const hash = await put(Uint8Array.of(1, 2, 3));
  await cache.read(hash);
  writeFileSync(join(folder, hash), Uint8Array.of(1, 2, 3, 4));
  expect(await cache.read(hash)).toBe("changed");
  await files.write(hash, Uint8Array.of(1, 2, 3));
  expect(await cache.read(hash)).toEqual(Uint8Array.of(1, 2, 3));
  await files.keep(new Set());
  expect(await cache.read(hash)).toBeNull();
});

test("forgets what was asked for longest ago", async () => {
  const third = Math.floor(IMAGE_CACHE_BYTES / 3) + 1;
  const hashes = [];
  for (const n of [1, 2, 3]) hashes.push(await put(new Uint8Array(third).fill(n)));
  const [one, two, three] = hashes as [string, string, string];
  const first = await cache.read(one);
  await cache.read(two);
  expect(await cache.read(one)).toBe(first);
  await cache.read(three);
  expect(await cache.read(one)).toBe(first);
  expect(hashed).toBe(3);
  await cache.read(two);
  expect(hashed).toBe(4);
});
