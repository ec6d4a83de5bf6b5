// Goal: one eventfd behind a guest's doorbell and in front of its SPI: interrupts.md 6.7, T100.
// Method: a guest stores to the doorbell with interrupts let in; the VM isn't left for it.
import { expect, it } from "vitest";
import * as a64 from "../support/a64.js";
import { IrqVm, type Model } from "../support/irq-case.js";

const SPI = 40;
const DOORBELL = 0x900_0000n;

it.each<Model>(["v2", "v3"])("T100: a guest rings its own SPI within the VM (%s)", (model) => {
  const vm = new IrqVm(model);
  const { cpu } = vm;
  cpu.claim(SPI, "edge");
  const fd = vm.eventfd();
  vm.irqfd(fd, SPI - 32);
  vm.call("ioeventfd", { datamatch: 0n, addr: DOORBELL, len: 4, fd, flags: 0 });
  const exits = vm.counter("mmioExitUser");
  // No stop of the guest lies between the store and the pending bit.
  const [low, bit] = [cpu.at(0x200, SPI, 1), 1n << BigInt(SPI % 32)];
  const pending = cpu.exec(
    ...a64.mov(1, DOORBELL),
    a64.strw(1, 1),
    ...a64.mov(1, BigInt(low)),
    a64.ldrw(0, 1),
  );
  expect(pending & bit).toBe(bit);
  // Its stop behind that is the only exit to userspace.
  expect(vm.counter("mmioExitUser") - exits).toBe(1);
  expect(vm.count(fd)).toBe(0);
  expect(cpu.take()).toEqual([SPI]);
});
