// Owns: one subject in a process of its own, so that none runs on code that another has shaped,
// and a crash or a hang ends that subject only. Started by run.ts.
import type { BenchContext, FromSubject, Subject } from "./subject.js";
import { rowOf } from "./subject.js";

const [name = "", file = "", quick = "", profileDir = "", part = ""] = process.argv.slice(2);

function send(message: FromSubject): void {
  process.send?.(message);
}

const context: BenchContext = {
  quick: quick === "quick",
  profileDir: profileDir === "" ? null : profileDir,
  part: part === "" ? null : part,
  report: (measured) => send({ kind: "row", row: rowOf(name, measured) }),
  note: (text) => send({ kind: "note", text }),
};

// Without its runner nobody reads what it finds.
process.once("disconnect", () => process.exit());

const { default: subject } = (await import(file)) as { default: Subject };
await subject(context);
send({ kind: "done" });
process.disconnect();
