// Goal: what the kernel's irqfd_test checks, over HTTP: an eventfd serves one irqfd of all VMs, and
// de-assigning what isn't there succeeds, under a race too. Method: two VMs of a real service.
import { expect, it } from "vitest";
import { HttpVm, TYPE } from "../../support/irq-http.js";
import { serviceOfFile } from "../../support/irq-service.js";
import { CTRL_INIT, GROUP } from "../../support/irq-uapi.js";

/** The kernel's own test has 10,000. */
const LOOPS = 250;

const call = serviceOfFile("irqfd-test");

async function withVgic(): Promise<HttpVm> {
  const vm = await HttpVm.create(call);
  expect(await vm.createVcpu(0)).toBeNull();
  const device = await vm.device(TYPE.V3);
  expect(await device.setNothing(GROUP.CTRL, CTRL_INIT)).toBeNull();
  return vm;
}

it("an eventfd that an irqfd holds is busy for each gsi of each VM", async () => {
  const [first, second] = [await withVgic(), await withVgic()];
  const eventfd = await first.eventfd();
  expect(await first.irqfd(eventfd, 10)).toBeNull();
  expect(await first.irqfd(eventfd, 11)).toBe("EBUSY");
  expect(await second.irqfd(eventfd, 12)).toBe("EBUSY");
  for (const [vm, gsi] of [
    [first, 11],
    [second, 12],
    [first, 13],
    [second, 14],
    [first, 10],
  ] as const) {
    expect(await vm.deassign(eventfd, gsi)).toBeNull();
  }
  expect(await second.irqfd(eventfd, 12)).toBeNull();
  await first.delete();
  await second.delete();
});

it("two tasks that race for one eventfd get it or EBUSY, and nobody keeps it", async () => {
  const [first, second] = [await withVgic(), await withVgic()];
  const eventfd = await first.eventfd();
  const answers: (string | null)[] = [];
  const released: (string | null)[] = [];
  const race = async (vm: HttpVm, gsi: number) => {
    for (let n = 0; n < LOOPS; n++) {
      answers.push(await vm.irqfd(eventfd, gsi));
      released.push(await vm.deassign(eventfd, gsi));
    }
  };
  await Promise.all([race(first, 10), race(second, 10)]);
  expect(answers.length).toBe(2 * LOOPS);
  expect(new Set(answers).has(null)).toBe(true);
  expect(answers.filter((errno) => errno !== null && errno !== "EBUSY")).toEqual([]);
  expect(released.filter((errno) => errno !== null)).toEqual([]);
  expect(await second.irqfd(eventfd, 10)).toBeNull();
  await first.delete();
  await second.delete();
}, 30_000);

it("one that is closed meanwhile is busy, or not there any more", async () => {
  const vm = await withVgic();
  for (let n = 0; n < LOOPS / 10; n++) {
    const eventfd = await vm.eventfd();
    const [assigned, closed] = await Promise.all([
      vm.irqfd(eventfd, 10),
      call("DELETE", `/v1/eventfds/${eventfd}`),
    ]);
    expect(closed.status).toBe(204);
    expect([null, "EBADF"]).toContain(assigned);
    expect(await vm.deassign(eventfd, 10)).toBe("EBADF");
  }
  // Every one of them was detached.
  const eventfd = await vm.eventfd();
  expect(await vm.irqfd(eventfd, 10)).toBeNull();
  await vm.delete();
});
