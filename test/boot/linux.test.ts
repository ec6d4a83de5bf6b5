// Goal: a kernel that no one here wrote boots over HTTP to its shell, is typed to and powers off.
// Method: Debian's 6.1 with our initramfs on a real service; `npm run boot` is the long form.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Client } from "../../dist/cli/client.js";
import {
  type BootSpec,
  bootLinux,
  createLinux,
  faultsOf,
  LIMIT_MS,
} from "../../tools/linux/boot.js";
import { missingLinux } from "../../tools/linux/initramfs.js";
import { type RealService, startReal, temporary } from "../support/real-service.js";

const SPEC: BootSpec = { kernel: "6.1", gic: 3, smp: 1, clock: "wall" };

describe("Debian's Linux 6.1", () => {
  const why = missingLinux(SPEC.kernel);
  if (why !== null) {
    it("is not booted", (context) => context.skip(why));
    return;
  }
  let service: RealService;
  let folder: Awaited<ReturnType<typeof temporary>>;
  beforeAll(async () => {
    folder = await temporary("linux");
    service = await startReal({ dataDir: folder.path });
  });
  afterAll(async () => {
    expect(await service.stop()).toBe(0);
    await folder.remove();
  });

  it(
    "boots to a shell, says what it is, and powers off",
    async () => {
      const client = new Client(service.origin, null);
      const vm = await createLinux(client, SPEC);
      const booted = await bootLinux(client, vm);
      expect(faultsOf(SPEC, booted)).toEqual([]);
      const { state, unassigned } = await client.call("getBoard", { vm });
      expect([state, unassigned.count]).toEqual(["shutdown", 0]);
    },
    LIMIT_MS + 30_000,
  );
});
