// Goal: what the kernel's vgic_irq checks, over HTTP: every way of injection delivers each one
// once, edge and level, EOImode 0 and 1; numbers that are none; preemption; active state that
// userspace restores; what two vCPUs and two groups do. Method: a GICv3 whose guest takes
// interrupts by a handler that writes them down, or by hand.
import { describe, expect, it } from "vitest";
import * as a64 from "../../support/a64.js";
import { mrsIcc, msrIcc } from "../../support/irq-code.js";
import { HANDLER_EXIT } from "../../support/irq-http.js";
import { serviceOfFile } from "../../support/irq-service.js";
import { DIST, GICD, GROUP, REDIST, SPURIOUS } from "../../support/irq-uapi.js";
import { startV3, stores, type V3, wordsOf } from "../../support/irq-v3.js";

const call = serviceOfFile("vgic-irq");

const NR_IRQS = 64;
/** Those of the timers and of the PMU are KVM's own. */
const OWNED = [23, 26, 27, 28, 30];
const range = (from: number, end: number) => Array.from({ length: end - from }, (_, n) => from + n);
const SPIS = range(32, NR_IRQS);
const PPIS = range(16, 32).filter((intid) => !OWNED.includes(intid));
const [LINE_SPI, LINE_PPI] = [1, 2];
const SGI_FRAME = REDIST + 0x1_0000;
const IRQ_TAKEN = 21;
/** Tells userspace what was taken, so that it lowers the line. */
const TELL = [...a64.mov(23, BigInt(HANDLER_EXIT)), a64.str(IRQ_TAKEN, 23)];

interface Way {
  readonly name: string;
  readonly ids: readonly number[];
  raise(v3: V3, intid: number): Promise<void>;
  /** Of a level interrupt that is being handled. */
  lower(v3: V3, intid: number): Promise<void>;
}

async function line({ vm }: V3, intid: number, level: 0 | 1): Promise<void> {
  const type = intid < 32 ? LINE_PPI : LINE_SPI;
  expect(await vm.line(type, 0, intid, level)).toBeNull();
}

const bits = (ids: ReadonlySet<number>, word: number) =>
  [...ids]
    .filter((intid) => intid >> 5 === word)
    .reduce((value, intid) => value | (1n << BigInt(intid % 32)), 0n);

/** Lines by words of LEVEL_INFO: the whole word is set each time. */
function levelInfo(): Way {
  const high = new Set<number>();
  const set = async ({ device }: V3, intid: number) => {
    const word = intid >> 5;
    expect(await device.set(GROUP.LEVEL, word * 32, bits(high, word))).toBeNull();
  };
  return {
    name: "LEVEL_INFO",
    ids: [...PPIS, ...SPIS],
    raise: async (v3, intid) => {
      high.add(intid);
      await set(v3, intid);
    },
    lower: async (v3, intid) => {
      high.delete(intid);
      await set(v3, intid);
    },
  };
}

/** Latches by words of ISPENDR, which userspace writes whole, too. */
function ispendr(ids: readonly number[]): Way {
  const set = new Set<number>();
  return {
    name: "ISPENDR",
    ids,
    raise: async ({ device }, intid) => {
      set.add(intid);
      const word = intid >> 5;
      const [group, offset] = word === 0 ? [GROUP.REDIST, 0x1_0000] : [GROUP.DIST, 4 * word];
      const value = bits(set, word);
      expect(await device.set(group, offset + GICD.ISPENDR, value)).toBeNull();
    },
    lower: async () => {},
  };
}

function irqfd(): Way {
  return {
    name: "irqfd",
    ids: SPIS,
    raise: async ({ vm }, intid) => {
      const eventfd = await vm.eventfd();
      expect(await vm.irqfd(eventfd, intid - 32)).toBeNull();
      await vm.signal(eventfd);
      await vm.call("DELETE", `/v1/eventfds/${eventfd}`);
    },
    lower: (v3, intid) => line(v3, intid, 0),
  };
}

const lineHigh: Way = {
  name: "KVM_IRQ_LINE",
  ids: [...PPIS, ...SPIS],
  raise: (v3, intid) => line(v3, intid, 1),
  lower: (v3, intid) => line(v3, intid, 0),
};
const lineEdge: Way = {
  name: "KVM_IRQ_LINE",
  ids: SPIS,
  raise: async (v3, intid) => {
    await line(v3, intid, 1);
    await line(v3, intid, 0);
  },
  lower: async () => {},
};

async function nothingIsLeft({ cpus }: V3): Promise<void> {
  const cpu = cpus[0]!;
  expect(await cpu.iar()).toBe(SPURIOUS);
  const none = [0, 0];
  expect(await wordsOf(cpu, GICD.ISPENDR, NR_IRQS)).toEqual(none);
  expect(await wordsOf(cpu, GICD.ISACTIVER, NR_IRQS)).toEqual(none);
}

const CONFIGS = ["edge", "level"] as const;
const waysOf = (config: (typeof CONFIGS)[number]) =>
  config === "edge"
    ? [lineEdge, irqfd(), ispendr(SPIS)]
    : [lineHigh, levelInfo(), irqfd(), ispendr([...PPIS, ...SPIS])];

const RUNS = [false, true].flatMap((isSplit) =>
  CONFIGS.map((config) => [config, isSplit] as const),
);

describe.each(RUNS)("%s interrupts, EOImode 1: %s", (config, isSplit) => {
  it("come once by every way", async () => {
    const onTaken = config === "level" ? TELL : [];
    const v3 = await startV3(call, { nrIrqs: NR_IRQS, isSplit, onTaken });
    const cpu = v3.cpus[0]!;
    const icfgr = config === "edge" ? 0xaaaa_aaaa : 0;
    await stores(
      cpu,
      [8, 12].map((at) => [DIST + GICD.ICFGR + at, icfgr] as const),
    ); // tidy: words
    for (const way of waysOf(config)) {
      cpu.onHandlerExit = (intid) => way.lower(v3, intid);
      for (const intid of way.ids) await way.raise(v3, intid);
      const taken = await cpu.take();
      expect([way.name, taken.sort((a, b) => a - b)]).toEqual([way.name, way.ids]);
      await nothingIsLeft(v3);
    }
    await v3.vm.delete();
  });
});

describe("numbers that are none", () => {
  const NONE = [NR_IRQS, 1020, 1024, 1120, 5120, 65_535];
  it("are EINVAL, or nothing at all, by each way", async () => {
    const v3 = await startV3(call, { nrIrqs: NR_IRQS });
    const { vm, device } = v3;
    for (const intid of NONE) {
      expect([intid, await vm.line(LINE_SPI, 0, intid, 1)]).toEqual([intid, "EINVAL"]);
      const level = await device.set(GROUP.LEVEL, intid - (intid % 32), (1 << (intid % 32)) >>> 0);
      expect([intid, level]).toEqual([intid, intid <= 1023 ? null : "EINVAL"]);
      const pin = intid - 32;
      const entries = [{ gsi: 1, type: 1, pin }];
      const routed = await call("PUT", `${vm.path}/gsi-routing`, { entries });
      expect([intid, routed.status]).toEqual([intid, pin < 988 ? 200 : 422]);
      const eventfd = await vm.eventfd();
      expect(await vm.irqfd(eventfd, pin < 988 ? 1 : pin)).toBeNull();
      await vm.signal(eventfd);
    }
    await nothingIsLeft(v3);
    await vm.delete();
  });
});

it.each([false, true])("more urgent ones preempt, in order, EOImode 1: %s", async (isSplit) => {
  const v3 = await startV3(call, { nrIrqs: NR_IRQS, isSplit });
  const cpu = v3.cpus[0]!;
  const nested = SPIS.slice(0, 6);
  for (const [n, intid] of nested.entries()) {
    const word = DIST + GICD.IPRIORITYR + intid - (intid % 4);
    const others = (await cpu.read(word)) & ~(0xff << (8 * (intid % 4)));
    await stores(cpu, [[word, others | ((0xd0 - 0x20 * n) << (8 * (intid % 4)))]]);
    await stores(cpu, [[DIST + GICD.ICFGR + 8, 0xaaaa_aaaa]]);
    await lineEdge.raise(v3, intid);
    expect(await cpu.iar()).toBe(intid);
    expect(Number(await cpu.exec(mrsIcc(0, "ICC_RPR_EL1")))).toBe(0xd0 - 0x20 * n);
  }
  for (const intid of [...nested].reverse()) {
    await cpu.eoi(intid);
    if (isSplit) await cpu.dir(intid);
  }
  expect(Number(await cpu.exec(mrsIcc(0, "ICC_RPR_EL1")))).toBe(0xff);
  await nothingIsLeft(v3);
  await v3.vm.delete();
});

it.each([false, true])("active state of userspace is ended by the guest, %s", async (isSplit) => {
  const v3 = await startV3(call, { nrIrqs: NR_IRQS, isSplit });
  const { device, vm } = v3;
  const cpu = v3.cpus[0]!;
  const some = SPIS.slice(3, 6);
  await cpu.exec(a64.NOP);
  for (const intid of some) {
    expect(await device.set(GROUP.DIST, GICD.ISACTIVER + 4, 1 << (intid % 32))).toBeNull();
  }
  const words = await wordsOf(cpu, GICD.ISACTIVER, NR_IRQS);
  expect(words[1]! >>> 0).toBe(some.reduce((word, intid) => word | (1 << (intid % 32)), 0) >>> 0);
  for (const intid of some) {
    // The priority that an IAR would have made active.
    await cpu.exec(...a64.mov(0, 1n << BigInt(0xa0 >> 3)), msrIcc("ICC_AP1R0_EL1", 0));
    await cpu.eoi(intid);
    if (isSplit) await cpu.dir(intid);
  }
  await nothingIsLeft(v3);
  await vm.delete();
});

it("another vCPU's DIR deactivates an SPI", async () => {
  const v3 = await startV3(call, { nrIrqs: NR_IRQS, isSplit: true, vcpus: 2 });
  const [first, second] = [v3.cpus[0]!, v3.cpus[1]!];
  await stores(first, [[DIST + GICD.ICFGR + 8, 0xaaaa_aaaa]]);
  await lineEdge.raise(v3, 40);
  expect(await first.iar()).toBe(40);
  await first.eoi(40);
  expect((await wordsOf(second, GICD.ISACTIVER, NR_IRQS))[1]).toBe(1 << 8);
  await second.dir(40);
  expect((await wordsOf(first, GICD.ISACTIVER, NR_IRQS))[1]).toBe(0);
  await lineEdge.raise(v3, 40);
  expect(await first.iar()).toBe(40);
  await v3.vm.delete();
});

it("an SGI of group 0 waits until that group is enabled", async () => {
  const v3 = await startV3(call, { nrIrqs: NR_IRQS });
  const cpu = v3.cpus[0]!;
  const sgi = 5;
  await stores(cpu, [[SGI_FRAME + GICD.IGROUPR, ~(1 << sgi)]]);
  await cpu.icc("ICC_SGI0R_EL1", (BigInt(sgi) << 24n) | 1n);
  const iar0 = async () => Number(await cpu.exec(mrsIcc(0, "ICC_IAR0_EL1")));
  expect((await wordsOf(cpu, GICD.ISPENDR, 32))[0]).toBe(1 << sgi);
  expect(await iar0()).toBe(SPURIOUS);
  expect(await cpu.iar()).toBe(SPURIOUS);
  await cpu.icc("ICC_IGRPEN0_EL1", 1n);
  expect(await iar0()).toBe(sgi);
  await cpu.icc("ICC_EOIR0_EL1", BigInt(sgi));
  expect(await iar0()).toBe(SPURIOUS);
  await v3.vm.delete();
});

it("a timer fires and ends beside an SPI that is pending", async () => {
  const v3 = await startV3(call, { nrIrqs: NR_IRQS });
  const cpu = v3.cpus[0]!;
  await stores(cpu, [[DIST + GICD.ICFGR + 8, 0xaaaa_aaaa]]);
  await cpu.exec(
    ...a64.mov(0, 0n),
    a64.msr("CNTV_CVAL_EL0", 0),
    ...a64.mov(0, 1n),
    a64.msr("CNTV_CTL_EL0", 0),
  );
  await lineEdge.raise(v3, 40);
  expect(await cpu.iar()).toBe(27);
  await cpu.exec(...a64.mov(0, 2n), a64.msr("CNTV_CTL_EL0", 0));
  await cpu.eoi(27);
  expect(await cpu.iar()).toBe(40);
  await cpu.eoi(40);
  await nothingIsLeft(v3);
  await v3.vm.delete();
});
