// Owns: calls between the HTTP thread and the data-plane thread, the same on both sides.
import { fromRefusal, type RefusalData, toRefusal } from "../../base/errors.js";
import { PeerError } from "../ports.js";
import { StreamError } from "../wire/stream-error.js";

/** What of a MessagePort, or of a Worker, is used. */
export interface Port {
  postMessage(message: unknown): void;
  on(event: "message", listen: (message: Message) => void): void;
}

type Refused =
  | {
      readonly kind: "peer";
      readonly code: string;
      readonly detail: string;
      readonly isTransient: boolean;
      readonly isAnswer: boolean;
    }
  | { readonly kind: "other"; readonly refusal: RefusalData };

type Message =
  | { readonly kind: "call"; readonly id: number; readonly name: string; readonly args: unknown }
  | { readonly kind: "done"; readonly id: number; readonly result: unknown }
  | { readonly kind: "refused"; readonly id: number; readonly why: Refused }
  | { readonly kind: "told"; readonly name: string; readonly args: unknown };

/** Name → [arguments, result]. */
export type Calls = Record<string, [unknown, unknown]>;

export type Handlers<C extends Calls> = {
  readonly [N in keyof C]: (args: C[N][0]) => Promise<C[N][1]> | C[N][1];
};

interface Pending {
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: unknown) => void;
}

/** Theirs are the calls that the other side answers, Ours those that it makes. */
export class PortRpc<Theirs extends Calls, Ours extends Calls> {
  readonly #port: Port;
  readonly #handlers: Handlers<Ours>;
  readonly #pending = new Map<number, Pending>();
  #next = 0;
  #end: Error | null = null;

  constructor(port: Port, handlers: Handlers<Ours>) {
    this.#port = port;
    this.#handlers = handlers;
    port.on("message", (message) => this.#take(message));
  }

  call<N extends keyof Theirs & string>(name: N, args: Theirs[N][0]): Promise<Theirs[N][1]> {
    if (this.#end !== null) return Promise.reject(this.#end);
    const id = this.#next;
    this.#next += 1;
    return new Promise<Theirs[N][1]>((resolve, reject) => {
      this.#pending.set(id, { resolve: resolve as Pending["resolve"], reject });
      this.#port.postMessage({ kind: "call", id, name, args } satisfies Message);
    });
  }

  /** A call whose end nobody waits for. */
  tell<N extends keyof Theirs & string>(name: N, args: Theirs[N][0]): void {
    if (this.#end !== null) return;
    this.#port.postMessage({ kind: "told", name, args } satisfies Message);
  }

  /** The other side is gone. */
  fail(error: Error): void {
    this.#end ??= error;
    for (const { reject } of this.#pending.values()) reject(error);
    this.#pending.clear();
  }

  #take(message: Message): void {
    if (message.kind === "call") {
      void this.#answer(message.id, message.name, message.args);
    } else if (message.kind === "told") {
      void this.#handlers[message.name as keyof Ours](message.args);
    } else {
      const pending = this.#pending.get(message.id);
      this.#pending.delete(message.id);
      if (message.kind === "done") pending?.resolve(message.result);
      else pending?.reject(errorOf(message.why));
    }
  }

  async #answer(id: number, name: string, args: unknown): Promise<void> {
    try {
      const result = await this.#handlers[name as keyof Ours](args);
      this.#port.postMessage({ kind: "done", id, result } satisfies Message);
    } catch (error) {
      this.#port.postMessage({ kind: "refused", id, why: refusedOf(error) } satisfies Message);
    }
  }
}

function refusedOf(error: unknown): Refused {
  if (error instanceof PeerError) {
    const { code, message: detail, isTransient, isAnswer } = error;
    return { kind: "peer", code, detail, isTransient, isAnswer };
  }
  if (error instanceof StreamError) {
    const { code, message: detail, isFinal } = error;
    return { kind: "peer", code, detail, isTransient: !isFinal, isAnswer: isFinal };
  }
  return { kind: "other", refusal: toRefusal(error) };
}

function errorOf(why: Refused): Error {
  if (why.kind === "peer") {
    return new PeerError(why.code, why.detail, why.isTransient, why.isAnswer);
  }
  return fromRefusal(why.refusal);
}
