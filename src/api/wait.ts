// Owns: long polls: waiting for a state without holding anything but a subscription. HTTP thread.
import type { ApiDeps } from "./deps.js";
import type { VmResource } from "./services.js";

/** Ends at the next event about the subject, at the deadline, or when the service drains. */
function nextNews(deps: ApiDeps, subject: string, waitMs: number): Promise<void> {
  return new Promise((resolve) => {
    const end = () => {
      cancel();
      unsubscribe();
      withdraw();
      resolve();
    };
    let withdraw = () => {};
    const cancel = deps.clock.timer(waitMs, end);
    const unsubscribe = deps.services.events.subscribe((event) => {
      if (event.subject === subject) end();
    });
    withdraw = deps.lifecycle.onDrain(end);
  });
}

/**
 * Waits until a VM is in a state.
 * @param waitMs at most this long; then the VM is answered as it is
 * @throws ServiceError "vm-not-found", also when it is deleted while waiting
 */
export async function untilState(
  deps: ApiDeps,
  id: string,
  state: string,
  waitMs: number,
): Promise<VmResource> {
  const end = deps.clock.monotonicMs() + waitMs;
  for (;;) {
    // Subscribed before the look, so that a change between the two is not missed.
    const left = end - deps.clock.monotonicMs();
    const isLast = left <= 0 || deps.lifecycle.phase !== "serving";
    const news = isLast ? null : nextNews(deps, `vms/${id}`, left);
    const vm = await deps.services.vms.get(id);
    if (news === null || vm.state === state) return vm;
    await news;
  }
}
