// Owns: acknowledgements beside the deactivations that they are for: which came late, which never,
// which were for nothing. Knows nothing of KVM but the times. HTTP thread.

/** Something that happened to an SPI, at a nanosecond of the VM's clock. */
export interface Moment {
  readonly spi: number;
  readonly ns: number;
}

export interface AckCount {
  readonly acks: number;
  readonly late: number;
  readonly missed: number;
  readonly needless: number;
  readonly latencyNs: { readonly mean: number; readonly max: number } | null;
}

function bySpi(moments: readonly Moment[]): Map<number, number[]> {
  const found = new Map<number, number[]>();
  for (const { spi, ns } of moments) {
    const times = found.get(spi);
    if (times === undefined) found.set(spi, [ns]);
    else times.push(ns);
  }
  for (const times of found.values()) times.sort((a, b) => a - b);
  return found;
}

/** Each acknowledgement is for the oldest deactivation before it that has none. */
function latencies(ends: readonly number[], acks: readonly number[]) {
  const found: number[] = [];
  let at = 0;
  for (const ack of acks) {
    const end = ends[at];
    if (end === undefined || end > ack) continue;
    found.push(ack - end);
    at++;
  }
  return found;
}

/**
 * @param ends deactivations that owe an acknowledgement
 * @param acks of notifiers
 * @param lateNs later than this is late
 */
export function checkAcks(
  ends: readonly Moment[],
  acks: readonly Moment[],
  lateNs: number,
): AckCount {
  const acksOf = bySpi(acks);
  const waits = [...bySpi(ends)].flatMap(([spi, times]) => latencies(times, acksOf.get(spi) ?? []));
  const sum = waits.reduce((total, ns) => total + ns, 0);
  return {
    acks: acks.length,
    late: waits.filter((ns) => ns > lateNs).length,
    missed: ends.length - waits.length,
    needless: acks.length - waits.length,
    latencyNs: waits.length === 0 ? null : { mean: sum / waits.length, max: Math.max(...waits) },
  };
}
