// Owns: how urgent threads of this process are, as the system says, and what it lets us do. Test
// process.
import { readdirSync, readFileSync } from "node:fs";
import { platform } from "node:os";

const IS_LINUX = platform() === "linux";

/** Who is no superuser may only ever become less urgent. */
export const MAY_URGE = IS_LINUX && process.getuid?.() === 0;

/** Of each thread of this process; elsewhere than on Linux none is told. */
export function nicenesses(): ReadonlyMap<number, number> {
  if (!IS_LINUX) return new Map();
  return new Map(
    readdirSync("/proc/self/task").map((task) => {
      const stat = readFileSync(`/proc/self/task/${task}/stat`, "utf8");
      // Behind the name, which may be anything.
      return [Number(task), Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[16])];
    }),
  );
}
