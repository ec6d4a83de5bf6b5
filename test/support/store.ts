// Owns: stores in directories of their own, for tests.
import { copyFileSync, existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../../src/base/clock.js";
import { silentLog } from "../../src/base/log.js";
import { openStore, type Store } from "../../src/store/index.js";

export interface TestStores {
  readonly directory: string;
  readonly file: string;
  open(migrations?: string): Promise<Store>;
  /** What kill -9 at this moment leaves on disk, in a directory of its own. */
  afterKill(): Promise<TestStores>;
  remove(): Promise<void>;
}

export async function testStores(directory?: string): Promise<TestStores> {
  const root = directory ?? (await mkdtemp(join(tmpdir(), "tidemark-store-")));
  const file = join(root, "tidemark.db");
  const opened: Store[] = [];
  const copies: TestStores[] = [];
  return {
    directory: root,
    file,
    open: async (migrations) => {
      const options = { file, clock: systemClock, log: silentLog };
      const store = await openStore(
        migrations === undefined ? options : { ...options, migrations },
      );
      opened.push(store);
      return store;
    },
    afterKill: async () => {
      const copy = await mkdtemp(join(tmpdir(), "tidemark-store-"));
      // Both in one turn of the event loop, so no commit falls between them.
      copyFileSync(file, join(copy, "tidemark.db"));
      const wal = `${file}-wal`;
      if (existsSync(wal)) copyFileSync(wal, join(copy, "tidemark.db-wal"));
      const stores = await testStores(copy);
      copies.push(stores);
      return stores;
    },
    remove: async () => {
      for (const copy of copies) await copy.remove();
      for (const store of opened) await store.close().catch(() => {});
      await rm(root, { recursive: true, force: true });
    },
  };
}
