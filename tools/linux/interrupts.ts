// Owns: what a Linux guest printed of its interrupts: tables of /proc/interrupts, and what its log
// says of the controller. Tool and test process.

/** A line of /proc/interrupts that belongs to a controller. */
export interface InterruptRow {
  /** The controller's domain, as "GICv5-SPI". */
  readonly chip: string;
  readonly number: number;
  readonly trigger: string;
  readonly name: string;
  /** By CPU. */
  readonly counts: readonly number[];
}

const HEAD = /^ +CPU0\b/;
const ROW = /^ *\d+: +((?:\d+ +)+)(\S+) +(\d+) +(Level|Edge) +(\S.*)$/;
const IPI = /^ *(IPI\d+): +((?:\d+ +)+)/;

function rowOf(line: string, cpus: number): InterruptRow | null {
  const [, numbers = "", chip = "", number = "", trigger = "", name = ""] = ROW.exec(line) ?? [];
  const counts = numbers.trim().split(/ +/).map(Number);
  if (chip === "" || counts.length !== cpus) return null;
  return { chip, number: Number(number), trigger, name: name.trim(), counts };
}

/** Inter-processor interrupts have a number of their own, and no trigger. */
function ipiOf(line: string, cpus: number): InterruptRow | null {
  const [, name = "", numbers = ""] = IPI.exec(line) ?? [];
  const counts = numbers.trim().split(/ +/).map(Number);
  if (name === "" || counts.length < cpus) return null;
  const number = Number(name.slice("IPI".length));
  return { chip: "IPI", number, trigger: "", name, counts: counts.slice(0, cpus) };
}

/** Every table that was printed, in order. */
export function interruptTables(console: string): readonly (readonly InterruptRow[])[] {
  const tables: InterruptRow[][] = [];
  let cpus = 0;
  for (const line of console.split(/\r?\n/)) {
    if (HEAD.test(line)) {
      cpus = line.trim().split(/ +/).length;
      tables.push([]);
    }
    const row = rowOf(line, cpus) ?? ipiOf(line, cpus);
    if (row !== null) tables.at(-1)?.push(row);
  }
  return tables;
}

/** An interrupt that has to come, and on which CPUs. */
export interface Moving {
  readonly chip: string;
  /** What its name begins with. */
  readonly name: string;
  readonly on: "each CPU" | "some CPU";
}

/** Which interrupts did not come between the first table and the last; empty: all did. */
export function stillOnes(console: string, wanted: readonly Moving[]): readonly string[] {
  const tables = interruptTables(console);
  const [first, last] = [tables[0], tables.at(-1)];
  if (first === undefined || last === undefined || tables.length < 2) return ["two tables"];
  const of = (table: readonly InterruptRow[], { chip, name }: Moving) =>
    table.find((row) => row.chip === chip && row.name.startsWith(name))?.counts ?? [];
  return wanted
    .filter((one) => {
      const before = of(first, one);
      const moved = of(last, one).map((count, cpu) => count - (before[cpu] ?? 0));
      if (moved.length === 0) return true;
      return one.on === "each CPU" ? moved.includes(0) : moved.every((count) => count === 0);
    })
    .map(({ chip, name }) => `${name} of ${chip}`);
}

/** What is typed for the log that `controllerLines` reads. */
export const SHOW_LOG = "dmesg | grep -i -e gic -e 'root irq' -e secondary";

/** What a CPU is, which isn't its controller's. */
const MIDR = / \[0x[0-9a-f]+\]$/;

/** The kernel's log of its controller, and of each CPU that it started; without times. */
export function controllerLines(console: string): readonly string[] {
  return console
    .split(/\r?\n/)
    .map((line) => /^\[ *\d+\.\d+\] (.*)$/.exec(line)?.[1] ?? "")
    .filter((text) => /\bgic|root irq|^CPU\d+: booted/i.test(text))
    .filter((text) => !text.startsWith("Kernel command line"))
    .map((text) => text.replace(MIDR, ""));
}

/**
 * A GICv5 beside another one that ran the same kernel: its log, and the interrupts that both have,
 * CPU by CPU. Counts are time's; that an interrupt came to a CPU or not is the controller's.
 * @returns what is different; empty: nothing
 */
export function differences(ours: string, theirs: string): readonly string[] {
  const lines = [controllerLines(ours), controllerLines(theirs)] as const;
  const found: string[] = [];
  for (let at = 0; at < Math.max(lines[0].length, lines[1].length); at++) {
    const [our = "nothing", their = "nothing"] = [lines[0][at], lines[1][at]];
    if (our !== their) found.push(`line ${at + 1}: "${our}" and "${their}"`);
  }
  if (lines[1].length === 0) found.push("the reference says nothing of its controller");
  return [...found, ...otherRows(interruptTables(ours).at(-1), interruptTables(theirs).at(-1))];
}

/** IPIs of work that either machine happened to have aren't compared. */
const IPIS_OF_ANY_BOOT = new Set(["IPI0", "IPI1"]);

function otherRows(
  ours: readonly InterruptRow[] = [],
  theirs: readonly InterruptRow[] = [],
): readonly string[] {
  const compared = ours.filter(({ chip, name }) => chip !== "IPI" || IPIS_OF_ANY_BOOT.has(name));
  return compared.flatMap((our) => {
    // A virtio transport of the reference has another number.
    const their = theirs.find(({ chip, name }) => chip === our.chip && name === our.name);
    if (their === undefined) return [`${our.chip} ${our.name} is not there`];
    const [a, b] = [our, their].map(({ trigger, counts }) => {
      return `${trigger} on CPUs ${counts.map((count) => (count > 0 ? "1" : "0")).join(" ")}`;
    });
    return a === b ? [] : [`${our.chip} ${our.name}: ${a} and ${b}`];
  });
}
