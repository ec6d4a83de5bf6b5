// Goal: lines are carried out, compared or skipped by their form alone.
// Method: small recordings made here.
import { describe, expect, it } from "vitest";
import type { Line } from "./line.js";
import { parseRecording, planScenario } from "./recording.js";

const HEADER = {
  op: "header",
  format: 1,
  subject: "any",
  page_size: 4096,
  host_memory: { userspace_addr: "0x200000000000", size: "0x4000000" },
};

function line(op: string, on: string, more: Partial<Line> = {}): Line {
  return { i: 0, op, on, args: {}, ret: 0, errno: null, out: {}, ...more };
}

function kinds(lines: readonly Line[]): string[] {
  return planScenario(lines).map(({ plan }) => (plan.kind === "rule" ? plan.rule.name : plan.kind));
}

describe("parseRecording", () => {
  it("knows its own kind by the header", () => {
    const vectors = JSON.stringify({ format: "a64-vectors", kind: "single" });
    expect(parseRecording(vectors)).toContain("not a header");
    expect(parseRecording(JSON.stringify({ ...HEADER, format: 2 }))).toContain("format is 2");
    expect(parseRecording("")).toContain("not a JSON object");
  });

  it("splits scenarios and keeps unreadable rows as faults", () => {
    const scenario = JSON.stringify(line("scenario", "host", { args: { name: "a" } }));
    const call = JSON.stringify(line("KVM_CREATE_VM", "system"));
    const text = [JSON.stringify(HEADER), scenario, call, "{cut", scenario, call].join("\n");
    const recording = parseRecording(text);
    if (typeof recording === "string") throw new Error(recording);
    expect(recording.scenarios.map(({ name, lines }) => [name, lines.length])).toEqual([
      ["a", 1],
      ["a", 1],
    ]);
    expect(recording.faults).toHaveLength(1);
  });
});

describe("planScenario", () => {
  const create = line("KVM_CREATE_VM", "system");
  const get = line("KVM_GET_DIRTY_LOG", "vm0", { args: { slot: 0 } });
  const x86 = { arch: "x86" };

  it("carries out marked calls that had an effect, and leaves out refused ones", () => {
    const refused = line("KVM_ENABLE_CAP", "vm0", { ...x86, ret: -1, errno: "EINVAL" });
    const eventfd = line("eventfd", "host", x86);
    expect(kinds([create, eventfd, refused, get])).toEqual([
      "compare",
      "setup",
      "marked",
      "compare",
    ]);
  });

  it("leaves out everything after the last unmarked line", () => {
    expect(kinds([create, get, { ...get, ...x86 }])).toEqual(["compare", "compare", "marked"]);
    expect(kinds([{ ...create, ...x86 }])).toEqual(["marked"]);
  });

  it("marks the rest of a scenario after a span", () => {
    const span = { ...get, ...x86, why: "span" };
    expect(kinds([create, span, get])).toEqual(["compare", "marked", "marked"]);
  });

  it("accepts either answer of a quirk", () => {
    expect(kinds([{ ...get, quirk: "io-bus-order" }])).toEqual(["quirk"]);
  });

  it("names the rule for what HTTP can't say", () => {
    const raw = { args: { arg: "0x8" }, ret: -1, errno: "EFAULT" };
    const unmapped = { slot: 0, dirty_bitmap: "unmapped", num_pages: 16, first_page: "0x0" };
    expect(
      kinds([
        line("KVM_IRQFD", "vm0", raw),
        line("KVM_GET_API_VERSION", "system", { ...raw, args: { arg: "0x1" } }),
        line("KVM_CHECK_EXTENSION", "vcpu0", { args: { nr: 3 }, ret: -1, errno: "EINVAL" }),
        line("KVM_ENABLE_CAP", "vm1.vcpu0"),
        line("unknown ioctl", "vm0", { args: { request: "0xaeff", arg: "0x0" } }),
        line("mmap_vcpu", "vcpu0"),
        line("KVM_GET_DIRTY_LOG", "vm0", { args: unmapped, ret: -1, errno: "EFAULT" }),
        line("KVM_CLEAR_DIRTY_LOG", "vm0", { args: unmapped, ret: -1, errno: "EFAULT" }),
      ]),
    ).toEqual([
      "unreadable-argument",
      "raw-argument",
      "wrong-descriptor",
      "wrong-descriptor",
      "unknown-request",
      "mapping-mode",
      "unmapped-get-bitmap",
      "unmapped-clear-bitmap",
    ]);
  });

  it("leaves a refusal for the physical address width alone, and no other one", () => {
    const slot = (gpa: string, size: string) =>
      line("KVM_SET_USER_MEMORY_REGION", "vm0", {
        args: { slot: 0, flags: 0, guest_phys_addr: gpa, memory_size: size, userspace_addr: "0x0" },
        ret: -1,
        errno: "EINVAL",
      });
    expect(
      kinds([
        slot("0xffffffff00000000", "0x1000"),
        slot("0xfffffffffffff000", "0x1000"),
        slot("0xffffffff00000800", "0x1000"),
        slot("0xffffffff00000000", "0x0"),
        slot("0xfffffffffe000", "0x2000"),
        slot("0x0", "0xfffffffffffff000"),
      ]),
    ).toEqual(["physical-address-width", "compare", "compare", "compare", "compare", "compare"]);
  });

  it("compares calls whose raw argument or unread pointer a route can carry", () => {
    const args = { slot: 0, dirty_bitmap: "unmapped", num_pages: 65, first_page: "0x0" };
    expect(
      kinds([
        line("KVM_GET_API_VERSION", "system", { args: { arg: "0x0" }, ret: 12 }),
        line("KVM_CREATE_VCPU", "vm0", { args: { arg: "0x1" } }),
        line("KVM_RESET_DIRTY_RINGS", "vm0", { args: { arg: "0x0" } }),
        line("KVM_CLEAR_DIRTY_LOG", "vm0", { args, ret: -1, errno: "EINVAL" }),
      ]),
    ).toEqual(["compare", "compare", "compare", "compare"]);
  });
});
