// Which preemption points met: while one context stood at the first, another passed the second.

import type { StepObserver } from "../../src/kvm/index.js";
import { MEETING_PAIRS, POINT, POINT_NAMES } from "../../src/kvm/index.js";

export class Pairs {
  /** Shape [points * points]: stands * points + passes → times. */
  readonly counts: Float64Array;

  constructor() {
    this.counts = new Float64Array(POINT_NAMES.length ** 2);
  }

  /** For Scheduler.observer. */
  readonly observer: StepObserver = (moved, others) => {
    // A context that blocked or ended did not come to a point.
    if (moved.blockedOn !== null || moved.point < 0) return;
    let isThere = false;
    for (const other of others) if (other === moved) isThere = true;
    if (!isThere) return;
    const points = POINT_NAMES.length;
    for (const other of others) {
      if (other === moved || other.blockedOn !== null || other.point < 0) continue;
      this.counts[other.point * points + moved.point]!++;
    }
  };

  add(counts: ArrayLike<number>): void {
    for (let at = 0; at < counts.length; at++) this.counts[at]! += counts[at] ?? 0;
  }

  /** Times that each listed pair met, in the table's order. */
  rows(): { readonly stands: string; readonly passes: string; readonly count: number }[] {
    return MEETING_PAIRS.map(([stands, passes]) => ({
      stands,
      passes,
      count: this.counts[POINT[stands] * POINT_NAMES.length + POINT[passes]]!,
    }));
  }

  never(): string[] {
    return this.rows()
      .filter(({ count }) => count === 0)
      .map(({ stands, passes }) => `${stands} × ${passes}`);
  }

  table(): string {
    const lines = this.rows().map(({ stands, passes, count }) => {
      return `  ${stands.padEnd(18)} ${passes.padEnd(18)} ${String(count).padStart(12)}`;
    });
    return [`  ${"while one stood at".padEnd(18)} another passed`, ...lines].join("\n");
  }
}
