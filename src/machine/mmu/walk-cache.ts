// Owns: where tables of the last level are, as walks found them. VM thread.
//
// Hardware caches table descriptors too; whoever changes one invalidates (Arm ARM D8.13), and that
// forgets everything here.

const ENTRIES = 64;
const EMPTY = -1;

export class WalkCache {
  readonly #keys = new Float64Array(ENTRIES).fill(EMPTY);
  readonly #tables = new Float64Array(ENTRIES);
  readonly #limits = new Int32Array(ENTRIES);

  forget(): void {
    this.#keys.fill(EMPTY);
  }

  /** @param key an exact number @returns an index for tableAt and limitsAt, or -1 */
  find(key: number): number {
    const at = key & (ENTRIES - 1);
    return this.#keys[at] === key ? at : -1;
  }

  /** Address of the table. */
  tableAt(at: number): number {
    return this.#tables[at]!;
  }

  /** What the descriptors above it say of everything below. */
  limitsAt(at: number): number {
    return this.#limits[at]!;
  }

  fill(key: number, table: number, limits = 0): void {
    const at = key & (ENTRIES - 1);
    this.#keys[at] = key;
    this.#tables[at] = table;
    this.#limits[at] = limits;
  }
}
