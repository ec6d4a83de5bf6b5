// Calls between two simulated hosts, and all that a network may do to them.
import { PeerError } from "../../../src/migration/index.js";
import type { Life, World } from "./world.js";

/** A caller gives up after this. */
const TIMEOUT_MS = 1_000;
/** One that nobody listens to. */
const REFUSED_MS = 3;
const CUT_MS = 4_000;

export class Net {
  readonly #world: World;
  #cutUntilMs = 0;

  constructor(world: World) {
    this.#world = world;
  }

  get isCut(): boolean {
    return this.#world.now < this.#cutUntilMs;
  }

  cut(ms: number): void {
    this.#cutUntilMs = this.#world.now + ms;
  }

  heal(): void {
    this.#cutUntilMs = 0;
  }

  /**
   * @param caller whose life ends the call
   * @param callee of whom the present life answers
   * @throws PeerError
   */
  call<T>(
    what: string,
    caller: Life,
    callee: { readonly life: Life },
    handle: () => Promise<T>,
  ): Promise<T> {
    const world = this.#world;
    return new Promise<T>((resolve, reject) => {
      let isOver = false;
      const settle = (act: () => void): void => {
        if (isOver || !caller.isAlive) return;
        isOver = true;
        act();
      };
      const unreachable = () => reject(new PeerError("unreachable", `${what}: no answer`, true));
      world.at(TIMEOUT_MS, () => settle(unreachable));
      const answer = (life: Life, act: () => void): void => {
        if (!life.isAlive || world.hits("reply-lost", what)) return;
        world.at(world.between(0.1, 1), () => {
          if (!this.isCut) settle(act);
        });
      };
      const arrive = (): void => {
        const { life } = callee;
        if (this.isCut) return;
        if (!life.isAlive) {
          world.at(REFUSED_MS, () => settle(unreachable));
          return;
        }
        world.tell(what);
        handle().then(
          (value) => answer(life, () => resolve(value)),
          (error: unknown) => answer(life, () => reject(asPeerError(error))),
        );
      };
      this.#send(what, arrive);
    });
  }

  #send(what: string, arrive: () => void): void {
    const world = this.#world;
    if (world.hits("network-cut", what)) this.#cutUntilMs = world.now + world.between(10, CUT_MS);
    if (world.hits("request-lost", what)) return;
    const isLate = world.hits("request-delayed", what);
    const delayMs = world.between(0.1, 1) + (isLate ? TIMEOUT_MS + world.between(0, CUT_MS) : 0);
    world.at(delayMs, arrive);
    if (world.hits("request-duplicated", what)) world.at(world.between(0, CUT_MS), arrive);
  }
}

/** What HTTP makes of an error. */
function asPeerError(error: unknown): PeerError {
  if (error instanceof PeerError) return error;
  return new PeerError("internal", error instanceof Error ? error.message : String(error), false);
}
