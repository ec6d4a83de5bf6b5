// Goal: a session does nothing worse to its VM than what it may, whatever a client sends.
// Method: the stub over a VM in this thread, pumped as its commands come; first by hand, then with
// packets made at random from a seed.
import { describe, expect, it, vi } from "vitest";
import { EventfdCounters } from "../../../../src/base/eventfd-counters.js";
import { MemoryBudget } from "../../../../src/base/memory-budget.js";
import { Prng } from "../../../../src/base/prng.js";
import { InlineVm } from "../../../../src/runtime/inline-vm.js";
import { GuestAccess } from "../../../../src/service/gdb/guest-access.js";
import { frame } from "../../../../src/service/gdb/packet.js";
import { ClientRunControl } from "../../../../src/service/gdb/run-control.js";
import { Stub } from "../../../../src/service/gdb/stub.js";
import { createInstance } from "../../../../src/vmm/index.js";
import * as a64 from "../../../support/a64.js";
import { BASE, DEFINITION, MIB } from "../../../support/inline.js";

const CODE = [a64.add(0, 0, 1), a64.b(-1)];
const PC = 0x6030_0000_0010_0040n;

class Session {
  readonly vm: InlineVm;
  readonly stub: Stub;
  readonly counts = { packets: 0, damaged: 0, stops: 0 };
  sent = "";
  ends = 0;
  #open = true;

  constructor() {
    this.vm = InlineVm.create(
      { definition: DEFINITION, inputLog: { entriesMax: 100, bytesMax: MIB }, replay: null },
      {
        budget: MemoryBudget.create(64 * MIB).account()!,
        eventfds: EventfdCounters.create(8),
        createInstance,
      },
    );
    this.stub = new Stub({
      access: new GuestAccess(this.vm),
      control: new ClientRunControl({
        halt: async () => {},
        kick: async (vcpu) => void (await this.vm.call("kick", { vcpu })),
        run: async (vcpu) => {
          const args = { vcpu, immediateExit: false, mmioData: null };
          return (await this.vm.call("run", args)).value;
        },
      }),
      counts: this.counts,
      send: async (bytes) => {
        this.sent += bytes;
      },
      end: () => {
        this.ends++;
      },
    });
    void this.#pump();
  }

  async #pump(): Promise<void> {
    while (this.#open) {
      this.vm.pump(1);
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  async open(): Promise<void> {
    const { vm } = this;
    const size = BigInt(65536);
    const object = { size, userspaceAddr: null, backing: "ram" as const, hugePages: false };
    const { value } = await vm.call("createMemoryObject", object);
    const { userspaceAddr } = value;
    const slot = { slot: 0, flags: 0, guestPhysAddr: BigInt(BASE), memorySize: size };
    await vm.call("setUserMemoryRegion", { ...slot, userspaceAddr });
    await vm.call("writePhysicalMemory", { gpa: BigInt(BASE), bytes: a64.bytesOf(CODE) });
    await vm.call("createVcpu", { id: 0 });
    await vm.call("vcpuInit", { vcpu: 0, target: 5, features: [4n] });
    const pc = new Uint8Array(BigUint64Array.of(BigInt(BASE)).buffer);
    await vm.call("setOneReg", { vcpu: 0, reg: PC, value: pc });
    await this.stub.open();
    await this.stub.receive(frame("QStartNoAckMode"));
    this.sent = "";
  }

  /** @returns the body of the one packet that answers */
  async ask(body: string): Promise<string> {
    this.sent = "";
    await this.stub.receive(frame(body));
    while (this.sent === "") await new Promise((resolve) => setImmediate(resolve));
    return /^\$(.*)#..$/s.exec(this.sent)?.[1] ?? this.sent;
  }

  async close(): Promise<void> {
    await this.stub.close();
    this.#open = false;
    await this.vm.close();
  }

  async word(gpa: number): Promise<number> {
    const read = this.vm.call("readPhysicalMemory", { gpa: BigInt(gpa), length: 4 });
    return Buffer.from((await read).value).readUInt32LE();
  }
}

describe("a session", () => {
  it("acknowledges until it is told not to, and sends again what came damaged", async () => {
    const session = new Session();
    const { stub } = session;
    await session.open();
    const fresh = new Session();
    await fresh.stub.receive("$qAttached#8f");
    expect(fresh.sent).toBe("+$1#31");
    await fresh.stub.receive("-");
    expect(fresh.sent).toBe("+$1#31$1#31");
    await fresh.stub.receive("$qAttached#00");
    expect(fresh.sent.at(-1)).toBe("-");
    expect(fresh.counts).toMatchObject({ packets: 1, damaged: 1 });
    await fresh.close();
    await stub.receive("$qAttached#00");
    expect(session.sent, "without acknowledgements a damaged packet is lost").toBe("");
    expect(await session.ask("vMustReplyEmpty")).toBe("");
    expect(await session.ask("qSupported")).toContain("PacketSize=4000;qXfer:features:read+");
    await session.close();
  });

  it("gives the description in parts", async () => {
    const session = new Session();
    await session.open();
    const first = await session.ask("qXfer:features:read:target.xml:0,20");
    expect(first.startsWith('m<?xml version="1.0"?>')).toBe(true);
    let xml = "";
    for (let last = ""; !last.startsWith("l"); xml += last.slice(1)) {
      const at = xml.length.toString(16);
      last = (await session.ask(`qXfer:features:read:target.xml:${at},400`)).replace(
        /\}(.)/gs,
        (_all, c: string) => String.fromCharCode(c.charCodeAt(0) ^ 0x20),
      );
    }
    expect(xml).toMatch(/<\/target>\n$/);
    expect(xml.match(/<reg /g)?.length).toBeGreaterThan(68);
    expect(await session.ask("qXfer:features:read:other.xml:0,20")).toBe("E00");
    expect(await session.ask("qXfer:memory-map:read::0,20")).toBe("");
    await session.close();
  });

  it("leaves nothing behind: breakpoints in memory, debugging of vCPUs", async () => {
    const session = new Session();
    await session.open();
    expect(await session.ask(`Z0,${BASE.toString(16)},4`)).toBe("OK");
    expect(await session.ask("c")).toMatch(/^T05thread:1;/);
    expect(await session.word(BASE)).toBe(0xd420_0000);
    await session.stub.close();
    expect(await session.word(BASE)).toBe(CODE[0]);
    const machine = (session.vm.instance as ReturnType<typeof createInstance>).machine;
    expect(machine.kvm.vm.vcpuById(0)?.guestDebug).toBe(null);
    await session.close();
  });

  it("ends at a packet without end", async () => {
    const session = new Session();
    await session.open();
    await session.stub.receive(`$${"x".repeat(20_000)}`);
    expect(session.ends).toBe(1);
    await session.stub.receive(frame("g"));
    expect(session.sent).toBe("");
    await session.close();
  });

  it("survives any packet, and answers the next", async () => {
    const session = new Session();
    await session.open();
    const prng = new Prng(5n);
    const pick = <T>(list: readonly T[]): T => list[prng.below(list.length)]!;
    const heads = [
      ..."?gGpPmMXZzHTcsCSqQv!bBidItrRw",
      ..."qSupported qXfer:features:read:target.xml: qThreadExtraInfo, vCont; Hg Hc vKill".split(
        " ",
      ),
    ];
    const parts = [
      "",
      "0",
      "1",
      "-1",
      ",",
      ":",
      ";",
      "=",
      "#",
      "40000000",
      "ffffffffffffffff",
      "4",
    ];
    for (let round = 0; round < 1500; round++) {
      const length = prng.below(6);
      const tail = Array.from({ length }, () =>
        prng.below(8) === 0 ? String.fromCharCode(prng.below(256)) : pick(parts),
      );
      const body = pick(heads) + tail.join("");
      // Those end a session, or let the guest go on until it is interrupted.
      if (body.startsWith("vKill")) continue;
      await session.stub.receive(frame(body));
      await session.stub.receive("\x03");
      if (round % 100 === 0) {
        const attached = async () => expect(await session.ask("qAttached"), body).toBe("1");
        await vi.waitFor(attached);
      }
    }
    expect(session.ends).toBe(0);
    await session.close();
  });
});
