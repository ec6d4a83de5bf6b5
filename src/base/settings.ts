// Owns: what a table of named settings looks like, and the check of a value against it. Any thread.

export type SettingValue = string | number | boolean;

/** Until when a VM's setting may change. */
export type Changeable = "at-creation" | "before-vcpus" | "always";

/** One setting: what it may be, what it is unless told otherwise, and what that means. */
export interface SettingRow {
  /** The values by name, the first is the default; or a range of whole numbers. */
  readonly values: readonly (string | boolean)[] | { readonly min: number; readonly max: number };
  /** Of a range. */
  readonly default?: number;
  readonly changeable: Changeable;
  /** One sentence for the document. */
  readonly says: string;
  /** Specification section, message or manual that it comes from, or "our choice". */
  readonly source: string;
}

/** A row of a table, its values' types kept. Changeable at any time unless told otherwise. */
export const row = <const V extends SettingRow["values"]>(
  values: V,
  says: string,
  source: string,
  more: { default?: number; changeable?: Changeable } = {},
) => ({ values, says, source, changeable: more.changeable ?? ("always" as const), ...more });

export const atCreation = { changeable: "at-creation" } as const;
export const beforeVcpus = { changeable: "before-vcpus" } as const;

/** The values of a table's rows, by key. */
export type ValuesOf<T extends Record<string, SettingRow>> = {
  -readonly [K in keyof T]: T[K]["values"] extends readonly (infer V)[] ? V : number;
};

/** @returns a fresh object that holds every row's default */
export function defaultsOf<T extends Record<string, SettingRow>>(rows: T): ValuesOf<T> {
  const entries = Object.entries(rows).map(([key, row]) => [key, defaultOf(row)]);
  return Object.fromEntries(entries) as ValuesOf<T>;
}

export function defaultOf(row: SettingRow): SettingValue {
  if (Array.isArray(row.values)) return row.values[0] as SettingValue;
  return row.default ?? (row.values as { min: number }).min;
}

/** @returns what is wrong with a value, or null */
export function whyNot(row: SettingRow, value: SettingValue): string | null {
  if (Array.isArray(row.values)) {
    return row.values.includes(value as never) ? null : `must be one of ${row.values.join(", ")}`;
  }
  const { min, max } = row.values as { min: number; max: number };
  const isWithin = typeof value === "number" && Number.isInteger(value) && value >= min;
  return isWithin && value <= max ? null : `must be a whole number from ${min} to ${max}`;
}
