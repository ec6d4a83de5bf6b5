// Goal: ioeventfds as the numbered cases of interrupts.md 6.7 have them. Method: guest code stores
// and loads; the counters are real. T100, which needs a controller, is in doorbell.test.ts.
import { expect, it } from "vitest";
import type { EventfdRef } from "../../src/vmm/commands.js";
import * as a64 from "../support/a64.js";
import { Guest } from "../support/guest.js";
import { BASE } from "../support/inline.js";

const A = 0x900_0000n;
const FLAGS = { DATAMATCH: 1, PIO: 2, DEASSIGN: 4, UNKNOWN: 0x20 } as const;
const U64_MAX = 2n ** 64n - 1n;
const MMIO = { exitReason: "KVM_EXIT_MMIO" };
const OFF = { exitReason: "KVM_EXIT_SYSTEM_EVENT" };

const strh = (rt: number, rn: number): number => (0x7900_0000 | (rn << 5) | rt) >>> 0;

class Doorbells extends Guest {
  eventfd(): EventfdRef {
    return { index: this.eventfds.create(0n), isEventfd: true };
  }
  bell(fd: EventfdRef, len: number, flags = 0, datamatch = 0n, addr = A): string | null {
    return this.refused("ioeventfd", { fd, len, flags, datamatch, addr });
  }
  count(fd: EventfdRef): bigint {
    return this.eventfds.peek(fd.index);
  }
  /** A guest that has A in X1 and these values in X2, X3, … */
  start(values: readonly bigint[], words: readonly number[]): void {
    const setUp = values.flatMap((value, i) => a64.mov(2 + i, value));
    this.boot(0, [...a64.mov(1, A), ...setUp, ...words, ...a64.powerOff()], BASE);
  }
}

it("T94: a senseless length, flag or address is EINVAL", () => {
  const vm = new Doorbells();
  const fd = vm.eventfd();
  expect(vm.bell(fd, 3)).toBe("EINVAL");
  expect(vm.bell(fd, 0, FLAGS.DATAMATCH)).toBe("EINVAL");
  expect(vm.bell(fd, 4, FLAGS.UNKNOWN)).toBe("EINVAL");
  expect(vm.bell(fd, 8, 0, 0n, U64_MAX)).toBe("EINVAL");
});

it("T95: the same place collides unless length or value differ", () => {
  const vm = new Doorbells();
  expect(vm.bell(vm.eventfd(), 4)).toBeNull();
  expect(vm.bell(vm.eventfd(), 4, FLAGS.DATAMATCH, 1n)).toBe("EEXIST");
  expect(vm.bell(vm.eventfd(), 2, FLAGS.DATAMATCH, 1n)).toBeNull();
  expect(vm.bell(vm.eventfd(), 0)).toBe("EEXIST");
});

it("T96: the value that matches counts; another one, or another width, is userspace's", () => {
  const vm = new Doorbells();
  const fd = vm.eventfd();
  expect(vm.bell(fd, 4, FLAGS.DATAMATCH, 5n)).toBeNull();
  vm.start([5n, 6n], [a64.strw(2, 1), a64.strw(3, 1), strh(2, 1)]);
  const six = vm.run();
  expect(six).toMatchObject(MMIO);
  expect(six.mmio).toMatchObject({ physAddr: A, data: Uint8Array.of(6, 0, 0, 0), isWrite: true });
  expect(vm.count(fd)).toBe(1n);
  expect(vm.run().mmio).toMatchObject({ len: 2, data: Uint8Array.of(5, 0), isWrite: true });
  expect(vm.run()).toMatchObject(OFF);
  expect(vm.count(fd)).toBe(1n);
});

it("T97: length 0 takes stores of each width, and leaves loads to userspace", () => {
  const vm = new Doorbells();
  const fd = vm.eventfd();
  expect(vm.bell(fd, 0)).toBeNull();
  vm.start([0x11n], [a64.strb(2, 1), strh(2, 1), a64.strw(2, 1), a64.str(2, 1), a64.ldrw(3, 1)]);
  expect(vm.run().mmio).toMatchObject({ physAddr: A, len: 4, isWrite: false });
  expect(vm.count(fd)).toBe(4n);
  expect(vm.run(0, { mmioData: [1, 0, 0, 0] })).toMatchObject(OFF);
  expect(vm.count(fd)).toBe(4n);
});

it("T98: another value, or nothing at all, is ENOENT when de-assigned", () => {
  const vm = new Doorbells();
  const fd = vm.eventfd();
  expect(vm.bell(fd, 4, FLAGS.DATAMATCH | FLAGS.DEASSIGN, 5n)).toBe("ENOENT");
  expect(vm.bell(fd, 4, FLAGS.DATAMATCH, 5n)).toBeNull();
  expect(vm.bell(fd, 4, FLAGS.DATAMATCH | FLAGS.DEASSIGN, 6n)).toBe("ENOENT");
  expect(vm.bell(fd, 4, FLAGS.DEASSIGN)).toBe("ENOENT");
  expect(vm.bell(fd, 2, FLAGS.DATAMATCH | FLAGS.DEASSIGN, 5n)).toBe("ENOENT");
  expect(vm.bell(vm.eventfd(), 4, FLAGS.DATAMATCH | FLAGS.DEASSIGN, 5n)).toBe("ENOENT");
  expect(vm.bell(fd, 4, FLAGS.DATAMATCH | FLAGS.DEASSIGN, 5n)).toBeNull();
});

it("T99: a store to the same number in memory leaves an ioeventfd of the port bus alone", () => {
  const vm = new Doorbells();
  const fd = vm.eventfd();
  expect(vm.bell(fd, 4, FLAGS.PIO)).toBeNull();
  vm.start([1n], [a64.strw(2, 1)]);
  expect(vm.run().mmio).toMatchObject({ physAddr: A, len: 4, isWrite: true });
  expect(vm.run()).toMatchObject(OFF);
  expect(vm.count(fd)).toBe(0n);
});
