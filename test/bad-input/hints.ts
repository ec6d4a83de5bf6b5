// Owns: bodies and queries that KVM is likely to take, so that random requests get past its first
// check and meet a VM in many states. Test process.
import fc from "fast-check";

export interface Hint {
  readonly query?: readonly (readonly [string, string])[];
  /** JSON when it is an object, octet-stream when it is bytes. */
  readonly body?: object | Uint8Array;
}

const hex = (value: number): string => `0x${value.toString(16)}`;
const PAGE = 0x1000;
const MIB = 0x10_0000;
const GIB = 0x4000_0000;

const page = fc.integer({ min: 0, max: 255 });
const address = fc.oneof(
  page.map((n) => hex(n * PAGE)),
  page.map((n) => hex(GIB + n * PAGE)),
  fc.constantFrom(hex(2 * MIB), hex(4 * GIB), hex(5 * GIB), hex(0x7ff0_0000), "0xfffff8"),
);
const access = fc.record(
  {
    op: fc.constantFrom("read", "write"),
    address,
    length: fc.constantFrom(1, 2, 4, 8),
    value: fc.constant("0x2a"),
  },
  { requiredKeys: ["op", "address", "length"] },
);

const region = fc.record(
  {
    flags: fc.constantFrom(0, 1, 2, 3),
    guestPhysAddr: fc.constantFrom("0x0", hex(2 * MIB), hex(8 * MIB), hex(GIB), hex(2 * GIB)),
    memorySize: fc.constantFrom("0x0", hex(MIB), hex(MIB), hex(2 * MIB), hex(GIB), hex(PAGE)),
    memoryObjectId: fc.constantFrom(1, 1, 2),
    offset: fc.constantFrom("0x0", hex(MIB)),
  },
  { requiredKeys: ["guestPhysAddr", "memorySize", "memoryObjectId"] },
);
const region2 = fc.record(
  {
    flags: fc.constantFrom(0, 1, 4, 5),
    guestPhysAddr: fc.constantFrom(hex(8 * MIB), hex(2 * GIB)),
    memorySize: fc.constantFrom(hex(MIB), hex(PAGE), "0x0"),
    memoryObjectId: fc.constant(1),
    guestMemfdId: fc.constantFrom(1, 1, 2, -1),
    guestMemfdOffset: fc.constantFrom("0x0", "0x0", hex(PAGE)),
    region2: fc.boolean(),
  },
  { requiredKeys: ["guestPhysAddr", "memorySize", "memoryObjectId", "guestMemfdId"] },
);
const memslot = fc.oneof({ weight: 2, arbitrary: region }, { weight: 1, arbitrary: region2 });

const clear = fc
  .tuple(fc.constantFrom(0, 64, 128, 192), fc.constantFrom(64, 128, 256), fc.uint8Array())
  .map(([firstPage, numPages, seed]): Hint => {
    const bytes = new Uint8Array(numPages / 8).map((_byte, i) => seed[i % 7] ?? 0xff);
    return {
      query: [
        ["firstPage", hex(firstPage)],
        ["numPages", String(numPages)],
      ],
      body: bytes,
    };
  });

const ioeventfd = fc.record(
  {
    eventfd: fc.constant("@eventfd"),
    addr: fc.constantFrom(hex(4 * GIB), hex(4 * GIB + 4), hex(5 * GIB)),
    len: fc.constantFrom(0, 1, 2, 4, 8),
    datamatch: fc.constantFrom("0x0", "0x1"),
    flags: fc.constantFrom(0, 1, 2, 4, 5),
  },
  { requiredKeys: ["eventfd", "addr", "len"] },
);

const body = (arbitrary: fc.Arbitrary<object>): fc.Arbitrary<Hint> =>
  arbitrary.map((value) => ({ body: value }));

/** By operationId. */
export const HINTS: Readonly<Record<string, fc.Arbitrary<Hint>>> = {
  enableVmCapability: body(
    fc.record({ args: fc.constantFrom(["0x0"], ["0x1"], ["0x3"], ["0x1000"], ["0x200000"]) }),
  ),
  createMemoryObject: body(
    fc.record(
      {
        size: fc.constantFrom(hex(PAGE), hex(MIB), hex(32 * MIB)),
        backing: fc.constantFrom("ram", "unbacked"),
        hugePages: fc.boolean(),
      },
      { requiredKeys: ["size"] },
    ),
  ),
  createGuestMemfd: body(fc.record({ size: fc.constantFrom(hex(PAGE), hex(MIB)) })),
  allocateGuestMemfd: body(fc.constant({ offset: "0x0", length: hex(PAGE) })),
  punchGuestMemfd: body(fc.constant({ offset: "0x0", length: hex(PAGE) })),
  setMemslot: body(memslot),
  setProgram: body(
    fc.record({ kind: fc.constant("accesses"), accesses: fc.array(access, { maxLength: 40 }) }),
  ),
  createRun: body(
    fc.record(
      { immediateExit: fc.boolean(), mmioData: fc.constant("a0a1a2a3"), timeoutMs: fc.constant(5) },
      { requiredKeys: [] },
    ),
  ),
  clearDirtyLog: clear,
  createHarvest: fc.constantFrom<Hint>({}, { query: [["after", "@harvest"]] }),
  harvestDirtyRing: body(fc.record({ upTo: fc.integer({ min: 0, max: 8 }) })),
  setDirtyRingEntry: body(fc.record({ flags: fc.integer({ min: 0, max: 3 }) })),
  getDirtyRing: fc.constant({}),
  writeMemoryObject: page.map((n) => ({
    query: [["offset", hex(n * PAGE + 1)]],
    body: new Uint8Array(100).fill(n),
  })),
  writePhysicalMemory: page.map((n) => ({
    query: [["gpa", hex(n * PAGE)]],
    body: new Uint8Array(64).fill(n),
  })),
  readPhysicalMemory: fc.constant({
    query: [
      ["gpa", "0x800"],
      ["length", "4096"],
    ],
  }),
  createCoalescedZone: body(
    fc.record({ addr: fc.constantFrom(hex(5 * GIB), hex(6 * GIB)), size: fc.constantFrom(4, 64) }),
  ),
  deleteCoalescedZone: fc.constant({
    query: [
      ["addr", hex(5 * GIB)],
      ["size", "64"],
    ],
  }),
  writeEventfd: body(fc.record({ value: fc.constantFrom("0x0", "0x1", "0xfffffffffffffffe") })),
  createIoeventfd: body(ioeventfd),
  setMpState: body(fc.record({ mpState: fc.constantFrom(0, 5, 10, 1) })),
  createMsi: body(fc.constant({ addressLo: 0, addressHi: 0, data: 0 })),
  startVm: fc.constant({}),
  stopVm: fc.constant({}),
  createVm: body(fc.constantFrom({}, { validateOnly: true }, { ipaBits: 48, pageSize: 65_536 })),
};
