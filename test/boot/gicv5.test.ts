// Goal: a kernel that no one here wrote drives our GICv5: its timer, UART and disk interrupt on
// every CPU that they should, over a reboot, and it finds the controller that it finds elsewhere.
// Method: Debian's 7.2 on a real service with two vCPUs and a virtio disk, and the same kernel and
// initramfs on QEMU 11.1's GICv5; `npm run boot -- --gic 5 --reference` is the long form.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Client } from "../../dist/cli/client.js";
import {
  type Booted,
  type BootSpec,
  bootLinux,
  createLinux,
  faultsOf,
  LIMIT_MS,
  typedIn,
} from "../../tools/linux/boot.js";
import { missingLinux } from "../../tools/linux/initramfs.js";
import { controllerLines, differences, interruptTables } from "../../tools/linux/interrupts.js";
import { bootReference, missingReference } from "../../tools/linux/reference.js";
import { type RealService, startReal, temporary } from "../support/real-service.js";

const SPEC: BootSpec = { kernel: "7.2", gic: 5, smp: 2, clock: "wall", disk: true };

describe("Debian's Linux 7.2 on a GICv5", () => {
  const why = missingLinux(SPEC.kernel);
  if (why !== null) {
    it("is not booted", (context) => context.skip(why));
    return;
  }
  let service: RealService;
  let folder: Awaited<ReturnType<typeof temporary>>;
  let booted: Booted;
  beforeAll(async () => {
    folder = await temporary("gicv5");
    service = await startReal({ dataDir: folder.path });
  });
  afterAll(async () => {
    expect(await service.stop()).toBe(0);
    await folder.remove();
  });

  it(
    "boots to a shell, is interrupted by timer, UART and disk, and powers off",
    async () => {
      const client = new Client(service.origin, null);
      const vm = await createLinux(client, SPEC);
      booted = await bootLinux(client, vm, { typed: typedIn(SPEC) });
      expect(faultsOf(SPEC, booted)).toEqual([]);
      const { state, unassigned, resets } = await client.call("getBoard", { vm });
      expect([state, unassigned.count, resets]).toEqual(["shutdown", 0, 1]);
      // A fault that isn't one: the tables are there, and say what they should.
      expect(interruptTables(booted.console)).toHaveLength(2);
      expect(controllerLines(booted.console)).toContain(
        "GICv5 IRS: irs@8010000 detected SPI range [0-255]",
      );
      const { irs } = await client.call("getVgicV5", { vm });
      expect(irs).toMatchObject({ enabled: true, ist: { isValid: true, isTwoLevel: false } });
    },
    LIMIT_MS + 30_000,
  );

  const noReference = missingReference();
  if (noReference !== null) {
    it("is not compared with QEMU's", (context) => context.skip(noReference));
    return;
  }
  it(
    "finds the controller that it finds on QEMU 11.1",
    async () => {
      const theirs = await bootReference(SPEC, typedIn(SPEC));
      expect(differences(booted.console, theirs)).toEqual([]);
    },
    LIMIT_MS,
  );
});
