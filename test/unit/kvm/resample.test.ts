// Owns: acknowledgement: who is told of the end of which interrupt, in which order, and message
// 003's policies. Test process.
import { describe, expect, it } from "vitest";
import { IrqfdWorld } from "../../support/irqfd-world.js";

const PIN = 8;
const INTID = 40;

function resampling(config: "level" | "edge" = "level") {
  const world = new IrqfdWorld();
  const irq = world.spi(PIN, config);
  const [fd, resamplefd] = [world.fd(), world.fd()];
  world.resample(fd, PIN, resamplefd);
  const acks = () => world.eventfds.peek(resamplefd);
  return { world, irq, fd, resamplefd, acks };
}

describe("a resampling irqfd", () => {
  it("lowers the line at the end of the interrupt, then tells", () => {
    const { world, irq, fd, resamplefd, acks } = resampling();
    world.write(fd);
    const lineThen: boolean[] = [];
    const hook = { wake: () => lineThen.push(irq.lineLevel), hungUp: () => {} };
    world.eventfds.hook(resamplefd, hook, false);
    expect(world.take()).toBe(INTID);
    expect(lineThen).toEqual([false]);
    world.eventfds.unhook(resamplefd, hook);
    expect(world.take()).toBeNull();
    world.write(fd);
    expect(world.take()).toBe(INTID);
    expect(acks()).toBe(1n);
  });

  it("who raises the line again as it is told has the last word", () => {
    const { world, irq, fd, resamplefd } = resampling();
    world.write(fd);
    let left = 2;
    const again = () => {
      if (left-- > 0) world.eventfds.write(fd, 1n);
    };
    world.eventfds.hook(resamplefd, { wake: again, hungUp: () => {} }, false);
    expect([world.take(), world.take(), world.take(), world.take()]).toEqual([
      INTID,
      INTID,
      INTID,
      null,
    ]);
    expect(irq.lineLevel).toBe(false);
  });

  it("tells nobody with EOImode 1 before DIR", () => {
    const { world, fd, acks } = resampling();
    world.write(fd);
    world.guest((it) => {
      it.write("ICC_CTLR_EL1", 2n);
      it.read("ICC_IAR1_EL1");
      it.write("ICC_EOIR1_EL1", BigInt(INTID));
    });
    expect(acks()).toBe(0n);
    world.guest((it) => it.write("ICC_DIR_EL1", BigInt(INTID)));
    expect(acks()).toBe(1n);
  });

  it("an edge is never acknowledged; a software pend of a level is", () => {
    const edge = resampling("edge");
    edge.world.write(edge.fd);
    expect(edge.world.take()).toBe(INTID);
    expect(edge.acks()).toBe(0n);
    const level = resampling();
    level.irq.pendingLatch = true;
    level.world.vgic.delivery.queue(level.irq);
    expect([level.world.take(), level.world.take()]).toEqual([INTID, null]);
    expect([level.acks(), level.irq.pendingLatch]).toEqual([1n, false]);
  });

  it("an empty table: nobody is told and the line stays", () => {
    const { world, irq, fd, acks } = resampling();
    world.write(fd);
    world.routes();
    expect([world.take(), world.take()]).toEqual([INTID, INTID]);
    expect([acks(), irq.lineLevel]).toEqual([0n, true]);
  });
});

describe("those that share a line", () => {
  function two() {
    const first = resampling();
    const { world } = first;
    const [fd, resamplefd] = [world.fd(), world.fd()];
    world.resample(fd, PIN, resamplefd);
    return { ...first, second: { fd, acks: () => world.eventfds.peek(resamplefd) } };
  }

  it("are lowered once and told together", () => {
    const { world, fd, acks, second } = two();
    world.write(fd);
    world.write(second.fd);
    expect([world.take(), world.take()]).toEqual([INTID, null]);
    expect([acks(), second.acks()]).toEqual([1n, 1n]);
  });

  it("one that has left isn't told; the last one leaves the line low", () => {
    const { world, irq, fd, acks, second } = two();
    world.write(second.fd);
    world.deassign(fd, PIN);
    expect(irq.lineLevel).toBe(true);
    world.take();
    expect([acks(), second.acks()]).toEqual([0n, 1n]);
    world.write(second.fd);
    world.deassign(second.fd, PIN);
    expect([irq.lineLevel, irq.pending]).toEqual([false, false]);
  });

  it("of two GSIs on one pin the one listed last is told", () => {
    const world = new IrqfdWorld();
    world.spi(PIN);
    world.routes([8, PIN], [9, PIN]);
    const fds = [8, 9].map((gsi) => {
      const [fd, resamplefd] = [world.fd(), world.fd()];
      world.resample(fd, gsi, resamplefd);
      return { fd, resamplefd };
    });
    world.write(fds[0]!.fd);
    expect(world.take()).toBe(INTID);
    expect(fds.map(({ resamplefd }) => world.eventfds.peek(resamplefd))).toEqual([0n, 1n]);
  });

  it("being told may detach others and inject", () => {
    const { world, irq, fd, second, resamplefd, acks } = two();
    const hook = {
      wake: () => {
        world.deassign(second.fd, PIN);
        world.eventfds.write(fd, 1n);
      },
      hungUp: () => {},
    };
    world.eventfds.hook(resamplefd, hook, false);
    world.write(fd);
    expect(world.take()).toBe(INTID);
    expect([irq.lineLevel, second.acks(), acks()]).toEqual([true, 0n, 0n]);
  });

  it("newest notifier first, and none after it was taken off", () => {
    const { ackNotifiers: notifiers } = new IrqfdWorld().kvm;
    const told: string[] = [];
    const first = () => told.push("first");
    const second = () => {
      told.push("second");
      notifiers.unregister(3, first);
    };
    notifiers.register(3, first);
    notifiers.register(3, second);
    notifiers.ack(0, 3);
    expect(told).toEqual(["second"]);
    expect([notifiers.has(0, 3), notifiers.has(0, 4), notifiers.has(1, 3)]).toEqual([
      true,
      false,
      false,
    ]);
  });
});

describe("message 003", () => {
  it("clearing pending acknowledges only if that is asked for", () => {
    const { world, irq, fd, acks } = resampling();
    world.write(fd);
    world.kvm.onPendingCleared?.(PIN);
    expect([acks(), irq.lineLevel]).toEqual([0n, true]);
    world.kvm.policies["irq.ackOnClearPending"] = true;
    world.kvm.onPendingCleared?.(PIN);
    expect([acks(), irq.lineLevel]).toEqual([1n, false]);
    world.kvm.onPendingCleared?.(PIN + 1);
    expect(acks()).toBe(1n);
  });

  it("an edge that is cleared, then configured as level, is lost unless its level is kept", () => {
    for (const isKept of [false, true]) {
      const world = new IrqfdWorld();
      world.kvm.policies["irq.spiDefaultLevelForIrqfd"] = isKept;
      const irq = world.spi(PIN, "edge");
      irq.enabled = false;
      const [fd, resamplefd] = [world.fd(1n), world.fd()];
      world.resample(fd, PIN, resamplefd);
      irq.pendingLatch = false;
      irq.config = "level";
      irq.enabled = true;
      world.vgic.delivery.queue(irq);
      expect(world.take()).toBe(isKept ? INTID : null);
      expect(world.eventfds.peek(resamplefd)).toBe(isKept ? 1n : 0n);
    }
  });
});
