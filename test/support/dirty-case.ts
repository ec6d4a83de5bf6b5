// Owns: a numbered case of a specification that a defect or a policy must break: the same check
// runs without it, where it has to pass, and with it, where one of its assertions has to fail.
// Test process.
import { chai, expect, it } from "vitest";

export type Check = (switchOn: boolean, bug: string | null) => void | Promise<void>;

export interface Switched {
  /** What breaks the case: a seed bug as B1, or a policy as `hdbss.sync=request-nowait`. */
  readonly bug: string | readonly string[];
  readonly timeoutMs?: number;
}

/** An assertion of a test that failed; any other error says that the test itself is wrong. */
async function failureOf(run: () => void | Promise<void>): Promise<Error | null> {
  try {
    await run();
    return null;
  } catch (error) {
    if (error instanceof chai.AssertionError) return error;
    throw error;
  }
}

/** Passes if an assertion of the check fails with the switch on. */
export async function mustFail(check: Check, bug: string): Promise<void> {
  const failure = await failureOf(() => check(true, bug));
  expect(failure, `${bug} is on, and the check didn't notice`).toBeInstanceOf(chai.AssertionError);
}

/**
 * Registers `NUMBER: title`, which must pass, and for every bug `NUMBER with BUG: title`, which
 * must end in a failed assertion.
 * @param number as `T-30`
 */
export function twice(number: string, title: string, check: Check, switched: Switched): void {
  const { bug, timeoutMs } = switched;
  it(`${number}: ${title}`, () => check(false, null), timeoutMs);
  for (const one of typeof bug === "string" ? [bug] : bug) {
    it(`${number} with ${one}: ${title}`, () => mustFail(check, one), timeoutMs);
  }
}
