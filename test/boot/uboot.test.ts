// Goal: stock firmware starts from flash, and its prompt does what it is told.
// Method: Debian's U-Boot on a real service: `version`, `bdinfo`, `poweroff`.
import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Client } from "../../dist/cli/client.js";
import { guest, missingGuest } from "../../tools/debian.mjs";
import { bootLinux, LIMIT_MS } from "../../tools/linux/boot.js";
import { type RealService, startReal, temporary } from "../support/real-service.js";

const PACKAGE = "u-boot-qemu";
const MIB = 2 ** 20;

describe("Debian's U-Boot", () => {
  const file = guest(PACKAGE);
  if (file === null) {
    it("is not started", (context) => context.skip(missingGuest(PACKAGE)));
    return;
  }
  let service: RealService;
  let folder: Awaited<ReturnType<typeof temporary>>;
  beforeAll(async () => {
    folder = await temporary("uboot");
    service = await startReal({ dataDir: folder.path });
  });
  afterAll(async () => {
    expect(await service.stop()).toBe(0);
    await folder.remove();
  });

  it.each([undefined, 2, 3] as const)(
    "comes up at its prompt and powers off, GIC %s",
    async (gic) => {
      const client = new Client(service.origin, null);
      const firmware = "u-boot.bin";
      await client.call("putImage", { image: firmware }, Uint8Array.from(readFileSync(file)));
      const board = { firmware, memoryMiB: 128, ...(gic === undefined ? {} : { gic }) };
      const { id: vm } = await client.call("createVm", {}, { board });
      const typed = ["version", "bdinfo", "poweroff"];
      const { console } = await bootLinux(client, vm, { typed, prompt: "\n=> " });
      expect(console).toMatch(/=> version\r?\nU-Boot 20\d\d\./);
      expect(console).toContain("-> start    = 0x0000000040000000");
      expect(console).toContain(`-> size     = 0x${(128 * MIB).toString(16).padStart(16, "0")}`);
      expect(console).toContain("flashsize   = 0x0000000004000000");
    },
    LIMIT_MS + 30_000,
  );
});
