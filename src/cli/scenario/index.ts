// Owns: `tidemark scenario` from its options to its lines, pictures and status. CLI process.
import { writeFile } from "node:fs/promises";
import { extname } from "node:path";
import { Cleanup, endings, type Terminal } from "../ending.js";
import { EXIT, Failure } from "../failure.js";
import { openHost } from "../host.js";
import { diagram } from "./diagram.js";
import { SCENARIO_USAGE, type ScenarioOptions, scenarioOptions } from "./options.js";
import { RESAMPLE, resample } from "./resample.js";
import { type Asked, type Restart, restart } from "./restart.js";
import { pictureOf, story, summary } from "./text.js";

function runsOf(options: ScenarioOptions): readonly Asked[] {
  const { variants, gics, policy, settings, isVfioFirst } = options;
  const same = { policy, settings, isVfioFirst };
  return variants.flatMap((variant) => gics.map((gic) => ({ variant, gic, ...same })));
}

/** Of several pictures each has its own: picture.svg becomes picture-a1-v3.svg. */
function fileOf(path: string, { variant, gic }: Restart, options: ScenarioOptions): string {
  const marks = [
    ...(options.variants.length > 1 ? [variant.toLowerCase()] : []),
    ...(options.gics.length > 1 ? [`v${gic}`] : []),
  ];
  const end = extname(path);
  return [path.slice(0, path.length - end.length), ...marks].join("-") + end;
}

async function draw(all: readonly Restart[], options: ScenarioOptions): Promise<void> {
  const { svg } = options;
  if (svg === null) return;
  for (const one of all) {
    const path = fileOf(svg, one, options);
    await writeFile(path, diagram(pictureOf(one))).catch((error: Error) => {
      throw new Failure(`${path} can't be written: ${error.message}.`);
    });
  }
}

/** @returns the exit code */
export async function scenario(args: readonly string[], terminal: Terminal): Promise<number> {
  if (args[0] === RESAMPLE) return resample(args.slice(1), terminal);
  const options = scenarioOptions(args);
  if (options === null) {
    terminal.write(SCENARIO_USAGE);
    return EXIT.ok;
  }
  const { asJson, isQuiet, timeoutS } = options;
  const { ending, stop } = endings("The scenario", timeoutS, terminal);
  const { signal } = ending.controller;
  const host = await openHost(options);
  const all: Restart[] = [];
  try {
    for (const asked of runsOf(options)) {
      signal.throwIfAborted();
      const cleanup = new Cleanup();
      const one = await restart(host.client, asked, cleanup, signal).finally(() => cleanup.run());
      all.push(one);
      if (!asJson && !isQuiet) terminal.write(story(pictureOf(one), one.differences));
    }
  } catch (error) {
    throw ending.cause ?? error;
  } finally {
    stop();
    await host.close();
  }
  await draw(all, options);
  terminal.write(asJson ? `${JSON.stringify({ runs: all }, null, 1)}\n` : summary(all));
  return all.every(({ differences }) => differences.length === 0) ? EXIT.ok : EXIT.differs;
}
