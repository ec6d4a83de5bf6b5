// Owns: the log interface that lower rooms may use; app.ts gives pino. Any thread.

/** Structured log: fields first, sentence second. Never per page or per instruction. */
export interface Log {
  info(fields: Readonly<Record<string, unknown>>, sentence: string): void;
  warn(fields: Readonly<Record<string, unknown>>, sentence: string): void;
  error(fields: Readonly<Record<string, unknown>>, sentence: string): void;
}

export const silentLog: Log = { info: () => {}, warn: () => {}, error: () => {} };
