// Goal: whatever is done to SPIs and LPIs, a CPU is offered the most urgent one that waits for it,
// and the entries in memory alone say which that is.
// Method: drawn operations on a table, against a look at every entry; the index thrown away and
// made again from the bytes.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  INTID_TYPE,
  iaffidOf,
  intidOf,
  isOffered,
  priorityOf,
} from "../../../../src/machine/gic/gicv5/intid.js";
import { HostMemory } from "../../../../src/machine/host-memory.js";
import { InterruptDomain, Ist, type IstLayout } from "../../../../src/machine/index.js";
import { lpi, spi } from "../../../support/gicv5.js";

const PES = 3;
const SPIS = 20;
const LPIS = 64;
const shape = { isTwoLevel: false, level2Bytes: 4096 } as const;
const SPI_IST: IstLayout = { ...shape, base: 0x1000, idBits: 5, count: SPIS, entryBytes: 4 };
const LPI_IST: IstLayout = { ...shape, base: 0x2000, idBits: 6, count: LPIS, entryBytes: 16 };

function made(memory: HostMemory): InterruptDomain {
  const domain = new InterruptDomain();
  domain.setTable(INTID_TYPE.SPI, new Ist(memory, SPI_IST));
  domain.setTable(INTID_TYPE.LPI, new Ist(memory, LPI_IST));
  return domain;
}

/** Every entry looked at. */
function naive(domain: InterruptDomain, iaffid: number): number | null {
  const ids = [
    ...Array.from({ length: LPIS }, (_, id) => intidOf(INTID_TYPE.LPI, id)),
    ...Array.from({ length: SPIS }, (_, id) => intidOf(INTID_TYPE.SPI, id)),
  ];
  const waiting = ids.filter((intid) => {
    const word = domain.entry(intid);
    return isOffered(word) && iaffidOf(word) === iaffid;
  });
  const urgency = (intid: number) => priorityOf(domain.entry(intid));
  waiting.sort((a, b) => urgency(a) - urgency(b) || a - b);
  return waiting[0] ?? null;
}

const intid = fc.oneof(
  fc.nat(SPIS + 1).map(spi),
  fc.nat(LPIS + 1).map(lpi),
  fc.constant(intidOf(INTID_TYPE.PPI, 3)),
);
const operation = fc.oneof(
  fc.tuple(fc.constant("enable" as const), intid, fc.boolean()),
  fc.tuple(fc.constant("pend" as const), intid, fc.boolean()),
  fc.tuple(fc.constant("handling" as const), intid, fc.boolean()),
  fc.tuple(fc.constant("priority" as const), intid, fc.nat(31)),
  fc.tuple(fc.constant("affinity" as const), intid, fc.nat(PES)),
  fc.tuple(fc.constant("event" as const), intid, fc.constantFrom("set-edge", "set-level", "clear")),
  fc.tuple(fc.constant("deactivate" as const), intid, fc.constant(null)),
  fc.tuple(fc.constant("take" as const), intid, fc.nat(PES)),
);
type Operation = typeof operation extends fc.Arbitrary<infer T> ? T : never;

function apply(domain: InterruptDomain, [name, id, value]: Operation): void {
  switch (name) {
    case "enable":
    case "pend":
    case "handling":
      domain[name](id, value);
      return;
    case "priority":
    case "affinity":
      domain[name](id, value);
      return;
    case "event":
      domain.event(id, value as "set-edge" | "set-level" | "clear");
      return;
    case "deactivate":
      domain.deactivate(id);
      return;
    default: {
      const taken = domain.candidate(value as number);
      if (taken !== null) domain.activate(taken.intid);
    }
  }
}

describe("an interrupt domain", () => {
  it("offers the most urgent one, asked after every operation or never before", () => {
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 120 }), fc.boolean(), (operations, asks) => {
        const memory = new HostMemory(2 ** 16);
        const domain = made(memory);
        for (const one of operations) {
          apply(domain, one);
          if (!asks) continue;
          for (let pe = 0; pe < PES; pe++) {
            expect(domain.candidate(pe)?.intid ?? null).toBe(naive(domain, pe));
          }
        }
        const again = made(memory);
        for (let pe = 0; pe < PES; pe++) {
          const best = naive(domain, pe);
          expect(domain.candidate(pe)?.intid ?? null).toBe(best);
          expect(again.candidate(pe)?.intid ?? null).toBe(best);
        }
      }),
      { numRuns: 400 },
    );
  });

  it("tells of every change of a candidate whose it is", () => {
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 60 }), (operations) => {
        const domain = made(new HostMemory(2 ** 16));
        const told = new Set<number>();
        domain.onCandidate = (iaffid) => told.add(iaffid);
        const seen = () => [0, 1, 2].map((pe) => JSON.stringify(domain.candidate(pe)));
        let before = seen();
        for (const one of operations) {
          told.clear();
          apply(domain, one);
          const after = seen();
          const changed = [0, 1, 2].filter((pe) => before[pe] !== after[pe]);
          expect([...told]).toEqual(expect.arrayContaining(changed));
          before = after;
        }
      }),
      { numRuns: 300 },
    );
  });

  it("holds no more keys than it needs when nobody ever asks", () => {
    const domain = made(new HostMemory(2 ** 16));
    domain.enable(lpi(1), true);
    domain.pend(lpi(1), true);
    for (let n = 0; n < 10_000; n++) domain.priority(lpi(1), n % 32);
    const { offered } = domain.save().data as { offered: number[] };
    expect(offered).toEqual([lpi(1)]);
    expect(domain.candidate(0)).toEqual({ intid: lpi(1), priority: 9999 % 32 });
  });

  it("has nothing to offer without its IRS, and says so", () => {
    const domain = made(new HostMemory(2 ** 16));
    domain.enable(lpi(1), true);
    domain.pend(lpi(1), true);
    const told: number[] = [];
    domain.onCandidate = (iaffid) => told.push(iaffid);
    domain.setEnabled(false);
    expect(domain.candidate(0)).toBeNull();
    domain.setEnabled(true);
    expect(domain.candidate(0)?.intid).toBe(lpi(1));
    expect(told).toEqual([0, 0]);
    domain.setTable(INTID_TYPE.LPI, null);
    expect(domain.candidate(0)).toBeNull();
    expect(told).toEqual([0, 0, 0]);
  });

  it("sees entries that somebody else wrote with a rescan", () => {
    const memory = new HostMemory(2 ** 16);
    const domain = made(memory);
    memory.write32(SPI_IST.base + 4 * 3, 0x2809);
    expect(domain.candidate(0)).toBeNull();
    domain.rescan();
    expect(domain.candidate(0)).toEqual({ intid: spi(3), priority: 5 });
  });
});
