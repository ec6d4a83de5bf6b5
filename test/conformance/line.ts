// Owns: one recorded call, as the recorder names its members. Any thread.

export type Args = Readonly<Record<string, unknown>>;

export interface Line {
  /** Running number in the file. */
  readonly i: number;
  readonly op: string;
  /** "host", "system", "vm0", "vcpu1", "vm1.vcpu0", "dev0" … */
  readonly on: string;
  readonly args: Args;
  /** -1 for a refusal. */
  readonly ret: number;
  readonly errno: string | null;
  readonly out: Args;
  readonly arch?: string;
  readonly why?: string;
  readonly quirk?: string;
}

/** What a replayed call gave, in the recorder's words. */
export interface Outcome {
  readonly ret: number;
  readonly errno: string | null;
  readonly out: Args;
}

/** A line that can't be carried out at all; the sentence is the difference that is reported. */
export class ReplayFault extends Error {
  override readonly name = "ReplayFault";
}

/** A 32-bit member. @throws ReplayFault when the line lacks it */
export function numberArg(line: Line, name: string): number {
  const value = line.args[name];
  if (typeof value === "number") return value;
  throw new ReplayFault(`argument ${name} is not a number: ${JSON.stringify(value)}`);
}

/** A 64-bit member as text "0x…". @throws ReplayFault when the line lacks it */
export function wideArg(line: Line, name: string): string {
  const value = line.args[name];
  if (typeof value === "string" && /^0x[0-9a-fA-F]+$/.test(value)) return value;
  if (typeof value === "number" && Number.isInteger(value)) return `0x${value.toString(16)}`;
  throw new ReplayFault(`argument ${name} is not a 64-bit number: ${JSON.stringify(value)}`);
}

/** A symbol. @throws ReplayFault when the line lacks it */
export function nameArg(line: Line, name: string): string {
  const value = line.args[name];
  if (typeof value === "string") return value;
  throw new ReplayFault(`argument ${name} is not a name: ${JSON.stringify(value)}`);
}

/** A list. @throws ReplayFault when the line lacks it */
export function listArg(line: Line, name: string): readonly unknown[] {
  const value = line.args[name];
  if (Array.isArray(value)) return value;
  throw new ReplayFault(`argument ${name} is not a list: ${JSON.stringify(value)}`);
}
