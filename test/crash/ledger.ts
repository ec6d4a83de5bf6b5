// Owns: what a client knows of its VMs: what was acknowledged, and the one change per VM that was
// under way when the service died and may or may not have happened. Test process.

export interface SlotShape {
  readonly guestPhysAddr: string;
  readonly memorySize: string;
  readonly flags: number;
}

/** The parts of a VM that outlive its thread. */
export interface Shape {
  readonly manual: number;
  /** Sizes of memory objects, in order of creation. */
  readonly objects: readonly string[];
  readonly slots: Readonly<Record<number, SlotShape>>;
  readonly vcpus: readonly number[];
}

export interface Known {
  readonly id: string;
  /** Which of the client's lanes changes it. */
  readonly lane: number;
  name: string;
  /** Names that a PATCH under way may have given. */
  nameUnderWay: string | null;
  state: "active" | "stopped";
  stateUnderWay: "stopped" | "deleted" | null;
  shape: Shape;
  /** What the shape may be instead. */
  shapeUnderWay: Shape | null;
}

/** A POST of a VM with its key; no id: nobody knows what became of it. */
export interface Creation {
  readonly key: string;
  readonly body: { readonly name: string; readonly labels: Readonly<Record<string, string>> };
  id: string | null;
}

export const EMPTY: Shape = { manual: 0, objects: [], slots: {}, vcpus: [] };

/** A shape as text, for comparing. */
export function shapeText(shape: Shape): string {
  const slots = Object.entries(shape.slots).sort(([a], [b]) => Number(a) - Number(b));
  const vcpus = [...shape.vcpus].sort((a, b) => a - b);
  return JSON.stringify([shape.manual, shape.objects, slots, vcpus]);
}
