// Owns: what was asked of `tidemark scenario`, checked. CLI process.
import { parseArgs } from "node:util";
import type { HostOptions } from "../host.js";
import {
  flag,
  HOST_OPTIONS,
  hostOf,
  positive,
  type Settings,
  settingsOf,
  text,
  usageOf,
} from "../options.js";
import type { Gic } from "./accesses.js";
import { type Policy, VARIANT_NAMES, VARIANTS, type VariantName } from "./variants.table.js";

export interface ScenarioOptions extends HostOptions {
  readonly variants: readonly VariantName[];
  readonly gics: readonly Gic[];
  readonly policy: Policy;
  readonly settings: Settings;
  readonly isVfioFirst: boolean;
  /** null: no picture. */
  readonly svg: string | null;
  readonly asJson: boolean;
  readonly isQuiet: boolean;
  readonly timeoutS: number;
}

const SCENARIO = "vfio-restart";
const TIMEOUT_S = 120;
const titles = VARIANT_NAMES.map((name) => `  ${name.padEnd(3)} ${VARIANTS[name].title}\n`).join(
  "",
);

export const SCENARIO_USAGE = `usage: tidemark scenario ${SCENARIO} [options]

A VM dies before its end of interrupt while its assigned device asserts; the next one gets it.
Runs that with two guests of a host, prints who did what, and says what became of the interrupt.
Status: 0 when what came out is what docs/irqfd.md tells, 1 when it is not.

      --variant LIST          some of the variants below, with commas, or all (all)
      --gic LIST              interrupt controller: 2, 3 or both as 2,3 (3)
      --ack-on-clear-pending  with irq.ackOnClearPending, as message 003 proposed
      --spi-default-level     with irq.spiDefaultLevelForIrqfd
      --set KEY=VALUE         another setting of GET /v1/dirty-settings, which the tables don't
                              know of; may be repeated
      --vfio-first            VFIO fires before the second VM's KVM_IRQFD, and not behind it
      --svg FILE              draws it; of several, each into a file with its name in it
  -q, --quiet                 the outcomes alone
      --json                  everything that was seen, as JSON
      --timeout SECONDS       gives up after that long, with status 124 (${TIMEOUT_S})
      --server URL            the host to use (one of its own)
      --token-file FILE       holds the bearer token for it

tidemark scenario gicv5-resample [options] is another: message 004 beside what it should have done;
its --help says more.

Variants, by what the interrupt is to the second VM and what its guest does:
${titles}`;

const usage = usageOf(SCENARIO_USAGE);

const OPTIONS = {
  variant: { ...text, default: "all" },
  gic: { ...text, default: "3" },
  "ack-on-clear-pending": flag,
  "spi-default-level": flag,
  set: { ...text, multiple: true, default: [] as string[] },
  "vfio-first": flag,
  svg: text,
  quiet: { ...flag, short: "q" },
  json: flag,
  timeout: text,
  ...HOST_OPTIONS,
} as const;

function read(args: readonly string[]) {
  try {
    return parseArgs({ args: [...args], options: OPTIONS, allowPositionals: true });
  } catch (error) {
    throw usage((error as Error).message);
  }
}

function variantsOf(given: string): readonly VariantName[] {
  if (given === "all") return VARIANT_NAMES;
  return given.split(",").map((name) => {
    const known = VARIANT_NAMES.find((one) => one === name.toUpperCase());
    if (known === undefined) throw usage(`--variant takes ${VARIANT_NAMES.join(", ")} or all.`);
    return known;
  });
}

function gicsOf(given: string): readonly Gic[] {
  return given.split(",").map((version) => {
    if (version !== "2" && version !== "3") throw usage("--gic takes 2, 3 or 2,3.");
    return version === "2" ? 2 : 3;
  });
}

/** @returns null where only help was asked for. @throws Failure with the usage */
export function scenarioOptions(args: readonly string[]): ScenarioOptions | null {
  const { values, positionals } = read(args);
  if (values.help) return null;
  const [name, ...rest] = positionals;
  if (name !== SCENARIO || rest.length > 0) {
    throw usage(`The scenario is ${SCENARIO} or gicv5-resample.`);
  }
  const acks = values["ack-on-clear-pending"];
  const keeps = values["spi-default-level"];
  if (acks && keeps) throw usage("One of --ack-on-clear-pending and --spi-default-level.");
  return {
    ...hostOf(values, null, usage),
    variants: variantsOf(values.variant),
    gics: gicsOf(values.gic),
    policy: acks ? "ack-on-clear-pending" : keeps ? "spi-default-level" : "mainline",
    settings: settingsOf(values.set, usage),
    isVfioFirst: values["vfio-first"],
    svg: values.svg ?? null,
    asJson: values.json,
    isQuiet: values.quiet,
    timeoutS: positive("timeout", values.timeout, TIMEOUT_S, usage),
  };
}
