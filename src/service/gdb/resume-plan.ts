// Owns: thread ids, and what vCont asks of each thread. HTTP thread.
// A thread is a vCPU; 0 means any thread, so a vCPU's id is one less than its thread's.
import type { Resumed } from "./target.js";

export function threadOf(vcpu: number): string {
  return (vcpu + 1).toString(16);
}

/** @returns "all", "any", a vCPU's id, or null for what is no thread id */
export function parseThread(text: string): "all" | "any" | number | null {
  if (text === "-1") return "all";
  if (!/^[0-9a-fA-F]{1,8}$/.test(text)) return null;
  const id = parseInt(text, 16);
  return id === 0 ? "any" : id - 1;
}

/** One action of vCont: c, C sig, s, S sig, t, each for a thread or for the others. */
const ACTION = /^(?:([cst])|([CS])[0-9a-fA-F]{2})(?::(.*))?$/;

/**
 * Reads "c;s:2;…": for each vCPU the leftmost action that names it, or names none.
 * @returns null for what can't be understood
 */
export function resumePlan(actions: string, vcpus: readonly number[]): readonly Resumed[] | null {
  const chosen = new Map<number, string>();
  for (const text of actions.split(";")) {
    const match = ACTION.exec(text);
    if (match === null) return null;
    const [, plain, signalled, named] = match;
    const thread = named === undefined ? "all" : parseThread(named);
    if (thread === null) return null;
    const wanted = vcpus.filter((id) => thread === "all" || thread === "any" || thread === id);
    for (const id of thread === "any" ? wanted.slice(0, 1) : wanted) {
      // A guest takes no signals from its debugger.
      if (!chosen.has(id)) chosen.set(id, (plain ?? signalled ?? "t").toLowerCase());
    }
  }
  return [...chosen]
    .filter(([, action]) => action !== "t")
    .map(([vcpu, action]) => ({ vcpu, mode: action === "s" ? "step" : "continue" }));
}
