// Goal: the tours in README and docs work as they stand, and their answers are the service's.
// Method: its shell blocks run in one bash against a fresh service; the text block behind each is
// what came out, where "…" stands for anything and white space does not count.
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { program } from "../../tools/debian.mjs";
import { type RealService, ROOT, startReal, temporary } from "../support/real-service.js";

/** Page and heading of each tour, and shell blocks that it has at least. */
const TOURS = [
  ["README.md", "## Five-minute tour", 11],
  ["docs/hdbss.md", "## Five curls", 7],
] as const;
const TOUR_ADDRESS = "127.0.0.1:8080";
const MARK = "--- end of block";

interface Step {
  readonly commands: string;
  readonly answer: string;
}

/** Shell blocks of the section, each with the text block behind it. */
function stepsOf(page: string, heading: string): readonly Step[] {
  const begin = page.indexOf(`${heading}\n`);
  const section = page.slice(begin, page.indexOf("\n## ", begin + 1));
  const steps: { commands: string; answer: string }[] = [];
  for (const [, kind, text = ""] of section.matchAll(/^```(\w+)\n([\s\S]*?)^```$/gm)) {
    if (kind === "sh") steps.push({ commands: text, answer: "" });
    else {
      const last = steps.at(-1);
      if (last === undefined || last.answer !== "") throw new Error(`no commands before: ${text}`);
      last.answer = text;
    }
  }
  return steps;
}

function patternOf(answer: string): RegExp {
  const parts = answer.replace(/\s/g, "").split("…");
  const escaped = parts.map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  return new RegExp(`^${escaped.join(".*")}$`);
}

/** With curl where it was fetched. */
const PATH = [process.env["PATH"], dirname(program("curl"))].filter((folder) => folder !== ".");

/** @returns what each step printed, on either stream */
function runBash(steps: readonly Step[], address: string): Promise<readonly string[]> {
  const script = steps
    .map(({ commands }) => `${commands.replaceAll(TOUR_ADDRESS, address)}\necho '${MARK}'\n`)
    .join("");
  return new Promise((resolve, reject) => {
    const bash = spawn("bash", ["-eu", "-c", `exec 2>&1\n${script}`], {
      env: { PATH: PATH.join(delimiter), LC_ALL: "C.UTF-8" },
    });
    let output = "";
    bash.stdout.on("data", (chunk: Buffer) => {
      output += chunk.toString("utf8");
    });
    bash.on("error", reject);
    bash.on("close", (code) => {
      const printed = output.split(`${MARK}\n`);
      if (code === 0) resolve(printed.slice(0, -1));
      else reject(new Error(`bash ended with ${code} after: ${printed.at(-1)}`));
    });
  });
}

describe.each(TOURS)("the tour of %s", (page, heading, atLeast) => {
  const steps = stepsOf(readFileSync(join(ROOT, page), "utf8"), heading);
  let folder: Awaited<ReturnType<typeof temporary>>;
  let service: RealService;
  let printed: readonly string[];

  beforeAll(async () => {
    folder = await temporary("tour");
    service = await startReal({ dataDir: folder.path });
    printed = await runBash(steps, `127.0.0.1:${service.port}`);
  });
  afterAll(async () => {
    await service?.stop();
    await folder?.remove();
  });

  it("is there", () => {
    expect(steps.length).toBeGreaterThanOrEqual(atLeast);
    expect(steps[0]?.commands).toContain(TOUR_ADDRESS);
  });

  it.each(steps.map(({ commands }, i) => [i, commands.split("\n")[0]]))(
    "step %i answers as the page says: %s",
    (i) => {
      const step = steps[Number(i)];
      const got = (printed[Number(i)] ?? "").trim();
      const isSame = patternOf(step?.answer ?? "").test(got.replace(/\s/g, ""));
      expect(isSame ? step?.answer : got).toBe(step?.answer);
    },
  );

  it("leaves nothing behind", async () => {
    const vms = (await fetch(`${service.origin}/v1/vms`).then((r) => r.json())) as object;
    expect(vms).toMatchObject({ items: [] });
    expect(service.output()).not.toMatch(/"level":(50|60)/);
  });
});
