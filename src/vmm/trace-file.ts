// Owns: a trace as a file of Chrome's trace format, which Perfetto reads: one track per vCPU and
// one for ioctls. VM thread.
//
//   kvm_entry … kvm_exit ──▶ a slice "guest" on the vCPU's track, and an instant each
//   an ioctl             ──▶ an async slice, since two can be under way
// @source Trace Event Format (Google): ph M, X, i, b and e; ts in microseconds
import { TRACE_CATEGORY_NAMES, traceMask } from "../base/trace.table.js";
import type { Kvm } from "../kvm/index.js";
import type { TraceView } from "./commands.js";

type Json = Readonly<Record<string, unknown>>;
type Event = ReturnType<Kvm["vm"]["trace"]["events"]>[number];

const PID = 1;
/** The track of what no vCPU does; vCPU n has track n + 1. */
const VM_TRACK = 0;
const NS_PER_US = 1000;

const us = (ns: number): number => ns / NS_PER_US;

/** u64 are texts: JSON's readers have 53 bits. */
function argsOf(event: Event): Json {
  const entries = Object.entries(event.fields).map(([name, value]) => [
    name,
    typeof value === "bigint" ? `0x${value.toString(16)}` : value,
  ]);
  return Object.fromEntries(entries) as Json;
}

function ioctl(event: Event, index: number): readonly Json[] {
  const { ioctl: name, ...args } = argsOf(event);
  const common = { cat: event.category, pid: PID, tid: VM_TRACK, id: index, name };
  return [
    { ...common, ph: "b", ts: us(event.beganNs ?? event.ns), args: {} },
    { ...common, ph: "e", ts: us(event.ns), args },
  ];
}

function rowsOf(event: Event, index: number): readonly Json[] {
  if (event.name === "ioctl") return ioctl(event, index);
  const tid = event.vcpu === null ? VM_TRACK : event.vcpu + 1;
  const cat = event.category;
  const args = argsOf(event);
  const instant = { name: event.name, cat, ph: "i", s: "t", ts: us(event.ns), pid: PID, tid, args };
  if (event.beganNs === null) return [instant];
  const dur = us(event.ns - event.beganNs);
  const slice = { name: "guest", cat, ph: "X", ts: us(event.beganNs), dur, pid: PID, tid, args };
  return [slice, instant];
}

function trackNames(kvm: Kvm): readonly Json[] {
  const named = (name: string, tid: number, text: string): Json => {
    return { name, ph: "M", pid: PID, tid, args: { name: text } };
  };
  return [
    named("process_name", VM_TRACK, "VM"),
    named("thread_name", VM_TRACK, "ioctls"),
    ...kvm.vm.vcpus.map(({ id }) => named("thread_name", id + 1, `vCPU ${id}`)),
  ];
}

/** The file's bytes: the same trace gives the same ones. */
export function traceFile(kvm: Kvm): Uint8Array {
  const { trace } = kvm.vm;
  const first = trace.dropped;
  const rows = trace.events().flatMap((event, at) => rowsOf(event, first + at));
  // Slices are known when they end: by their beginnings, what began at once as it came.
  rows.sort((a, b) => Number(a["ts"]) - Number(b["ts"]));
  const file = {
    displayTimeUnit: "ns",
    otherData: { clock: kvm.vm.config.clock, dropped: trace.dropped },
    traceEvents: [...trackNames(kvm), ...rows],
  };
  return new TextEncoder().encode(JSON.stringify(file));
}

/** What is recorded, and how much. */
export function traceView({ vm: { trace } }: Kvm): TraceView {
  const categories = TRACE_CATEGORY_NAMES.filter((name) => (trace.mask & traceMask([name])) !== 0);
  const { isOn, recorded, dropped } = trace;
  return { isOn, categories, recorded, dropped };
}
