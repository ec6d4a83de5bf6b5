// Owns: the shared words by which the HTTP thread wakes, interrupts and ends a VM's thread.
// Announced on the HTTP thread, read on the VM's thread.

/** Messages posted; a thread with nothing to do sleeps on this word. */
const INPUTS = 0;
/** Of these, the ones that a running step must be cut short for. */
const URGENT = 1;
/** 1 once the VM shall end. */
const ENDING = 2;
/** The VM's thread, as the system names it; 0: not known. */
const THREAD = 3;
const WORDS = 4;

export class ThreadControl {
  readonly shared: SharedArrayBuffer;
  readonly #words: Int32Array;
  /** VM thread: messages announced at the last mark, and what was taken so far. All wrap. */
  #marked = 0;
  #taken = 0;
  #urgentTaken = 0;

  static create(): ThreadControl {
    return new ThreadControl(new SharedArrayBuffer(WORDS * 4));
  }

  constructor(shared: SharedArrayBuffer) {
    this.shared = shared;
    this.#words = new Int32Array(shared);
  }

  /** HTTP thread, after posting a message. */
  announce(urgent: boolean): void {
    // In this order, so that whoever sees an urgent message counted in has it in INPUTS too.
    Atomics.add(this.#words, INPUTS, 1);
    if (urgent) Atomics.add(this.#words, URGENT, 1);
    Atomics.notify(this.#words, INPUTS);
  }

  /** HTTP thread: see systemThread(). */
  get thread(): number {
    return Atomics.load(this.#words, THREAD);
  }

  /** VM thread. */
  introduce(thread: number): void {
    Atomics.store(this.#words, THREAD, thread);
  }

  /** HTTP thread: asks the VM's thread to leave its loop. */
  end(): void {
    Atomics.store(this.#words, ENDING, 1);
    this.announce(true);
  }

  /** VM thread, before it takes messages: whatever is announced later is for the next turn. */
  mark(): void {
    this.#marked = Atomics.load(this.#words, INPUTS);
  }

  /** VM thread: whether a message announced before the mark is still to be taken. */
  hasMore(): boolean {
    return ((this.#marked - this.#taken) | 0) > 0;
  }

  /** VM thread, for each message it has taken from its port. */
  take(urgent: boolean): void {
    this.#taken = (this.#taken + 1) | 0;
    if (urgent) this.#urgentTaken = (this.#urgentTaken + 1) | 0;
  }

  isEnding(): boolean {
    return Atomics.load(this.#words, ENDING) === 1;
  }

  /**
   * VM thread, asked often while it runs: whether an urgent message waits in the port. It is true
   * for exactly those not taken yet, since one is posted before it is announced: a step is never
   * cut for a message that came in already, as nothing in the log would tell a replay of that cut.
   */
  isInterrupted(): boolean {
    return ((Atomics.load(this.#words, URGENT) - this.#urgentTaken) | 0) > 0;
  }

  /** VM thread: sleeps until something was announced after mark(), or the timeout. */
  sleep(timeoutMs = Number.POSITIVE_INFINITY): void {
    Atomics.wait(this.#words, INPUTS, this.#marked, timeoutMs);
  }
}
