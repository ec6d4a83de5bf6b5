// Goal: what is signalled while a VM ends is heard by the VM that waits behind it, and by no other.
// Method: handles by hand; the first one's VM ends while a wake-up is on its way to it.
import { expect, it } from "vitest";
import { ServiceError } from "../../../src/base/errors.js";
import { EventfdCounters } from "../../../src/base/eventfd-counters.js";
import { EventfdOwners } from "../../../src/runtime/eventfd-owners.js";
import type { VmHandle } from "../../../src/runtime/handle.js";

const [ENDING, NEXT] = [1, 2];

interface Heard {
  readonly counters: EventfdCounters;
  readonly index: number;
  readonly count: number;
}

/** A client signals; the owner ends, and is forgotten before or after its answer. */
async function signalled(hasNext: boolean, isForgottenFirst: boolean): Promise<Heard> {
  const counters = EventfdCounters.create(4);
  const owners = new EventfdOwners(counters);
  const index = counters.create(0n);
  let count = 0;
  const forget = () => {
    owners.remove(ENDING);
    counters.releaseExclusive(index, ENDING);
    owners.released(index);
  };
  const ending = async () => {
    if (isForgottenFirst) forget();
    throw new ServiceError("vm-ended", "It has ended.");
  };
  const next = async () => {
    count += 1;
    return { value: { woken: true } };
  };
  owners.add(ENDING, { call: ending } as unknown as VmHandle);
  owners.add(NEXT, { call: next } as unknown as VmHandle);
  expect(counters.claimExclusive(index, ENDING)).toBe(true);
  if (hasNext) owners.waits(NEXT, index, true);
  expect(counters.write(index, 3n)).toBe("ok");
  await owners.wake(index, true);
  if (!isForgottenFirst) forget();
  await new Promise((resolve) => setImmediate(resolve));
  return { counters, index, count };
}

it.each([true, false])("the next one hears it, once (forgotten first: %s)", async (isFirst) => {
  const { counters, index, count } = await signalled(true, isFirst);
  expect(count).toBe(1);
  expect(counters.peek(index)).toBe(0n);
});

it("where nobody waits it goes with the VM", async () => {
  const { counters, index, count } = await signalled(false, true);
  expect(count).toBe(0);
  expect(counters.peek(index)).toBe(0n);
});
