// Owns: changes of one thing, one after the other. HTTP thread.

/** Runs asynchronous steps in the order they were asked for; a step that fails stops no other. */
export class ChangeQueue {
  #last: Promise<unknown> = Promise.resolve();

  run<T>(step: () => Promise<T>): Promise<T> {
    const result = this.#last.then(step);
    this.#last = result.catch(() => {});
    return result;
  }
}
