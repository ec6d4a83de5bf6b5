// Owns: the HTTP thread's side of one VM, whatever carries its messages. HTTP thread, or inline.
//
//   open ──close()──▶ ending ──carrier ended──▶ closed
//     └──died───────▶ ending (by itself)
//
// From "ending" on every call is refused with "vm-gone"; at "closed" whatever the VM held outside
// itself is back: budget, eventfd references, exclusive claims.
import { fromRefusal, ServiceError } from "../base/errors.js";
import { PENDING_CALLS_MAX } from "../base/limits.js";
import type { Command, CommandArgs, CommandName, CommandResult } from "../vmm/index.js";
import type { EventfdPins } from "./eventfd-pins.js";
import type { InputLog, Stamped, VmHandle, VmNews } from "./handle.js";
import type { FromVm, ToVm } from "./protocol.js";
import { movableBuffers } from "./transfer.js";

/** Never too many: a counter has two under way at most. A lost one would hang a device. */
const WAKE_UPS: ReadonlySet<CommandName> = new Set(["wakeEventfd", "hangUpEventfd"]);

/** Carries messages to a VM: a thread's port, or a queue in this thread. */
export interface VmCarrier {
  post(message: ToVm, transfer: readonly ArrayBuffer[]): void;
  /** Resolves once nothing of the VM runs any more. */
  end(): Promise<void>;
}

interface Pending {
  resolve(value: unknown): void;
  reject(error: Error): void;
}

export class VmDoor implements VmHandle {
  readonly #carrier: VmCarrier;
  readonly #pins: EventfdPins;
  readonly #onClosed: () => void;
  readonly #pending = new Map<number, Pending>();
  readonly #listeners: ((news: VmNews) => void)[] = [];
  /** What happened before anybody listened. */
  #unheard: VmNews[] = [];
  #nextId = 0;
  #gone: string | null = null;
  #closing: Promise<void> | null = null;

  /** @param onClosed returns the VM's account; called once, when nothing of the VM runs */
  constructor(carrier: VmCarrier, pins: EventfdPins, onClosed: () => void) {
    this.#carrier = carrier;
    this.#pins = pins;
    this.#onClosed = onClosed;
    pins.attach(this);
  }

  call<K extends CommandName>(name: K, args: CommandArgs<K>): Promise<Stamped<CommandResult<K>>> {
    const refused = this.#refusal(WAKE_UPS.has(name));
    if (refused !== null) return Promise.reject(refused);
    const { command, bindings } = this.#pins.translate({ name, args } as Command);
    return this.#expect((id) => {
      const message: ToVm = { kind: "call", id, command, bindings };
      this.#carrier.post(message, movableBuffers(args));
    }) as Promise<Stamped<CommandResult<K>>>;
  }

  inputLog(): Promise<InputLog> {
    const refused = this.#refusal();
    if (refused !== null) return Promise.reject(refused);
    return this.#expect((id) => {
      this.#carrier.post({ kind: "input-log", id }, []);
    }) as Promise<InputLog>;
  }

  onNews(listener: (news: VmNews) => void): void {
    this.#listeners.push(listener);
    const unheard = this.#unheard;
    this.#unheard = [];
    for (const news of unheard) listener(news);
  }

  close(): Promise<void> {
    this.#leave("The VM was stopped or deleted before it answered.");
    this.#closing ??= this.#carrier.end().then(() => {
      this.#pins.close();
      this.#onClosed();
    });
    return this.#closing;
  }

  /** A message of the VM; called by the carrier. */
  deliver(message: FromVm): void {
    switch (message.kind) {
      case "reply":
        this.#take(message.id)?.resolve({ value: message.value, stamp: message.stamp });
        return;
      case "refused":
        this.#take(message.id)?.reject(fromRefusal(message.refusal));
        return;
      case "input-log":
        this.#take(message.id)?.resolve(message.log);
        return;
      case "unbound":
        this.#pins.unbound(message.local, message.ordinal);
        return;
      case "eventfd-signalled":
        this.#pins.signalled(message.index);
        return;
      case "eventfd-waits":
        this.#pins.waits(message.index, message.isWaiting);
        return;
      case "eventfd-released":
        this.#pins.released(message.index);
        return;
      case "news":
        this.#tell(message.news);
        return;
      default:
        // How a VM starts and dies is the carrier's to tell.
        return;
    }
  }

  /** The VM ended without being asked; called by the carrier, heard once. */
  died(reason: string): void {
    if (this.#gone !== null) return;
    this.#leave(`The VM's thread ended: ${firstLine(reason)}`);
    this.#tell({ kind: "died", reason });
    void this.close();
  }

  /** Whether the VM has ended or is ending. */
  isGone(): boolean {
    return this.#gone !== null;
  }

  #expect(post: (id: number) => void): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const id = this.#nextId++;
      this.#pending.set(id, { resolve, reject });
      post(id);
    });
  }

  #take(id: number): Pending | undefined {
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    return pending;
  }

  #refusal(isWakeUp = false): ServiceError | null {
    if (this.#gone !== null) return new ServiceError("vm-gone", this.#gone);
    if (isWakeUp || this.#pending.size < PENDING_CALLS_MAX) return null;
    const why = `The VM has ${PENDING_CALLS_MAX} unanswered calls; repeat this one later.`;
    return new ServiceError("overloaded", why);
  }

  #leave(why: string): void {
    if (this.#gone !== null) return;
    this.#gone = why;
    const waiting = [...this.#pending.values()];
    this.#pending.clear();
    for (const pending of waiting) pending.reject(new ServiceError("vm-gone", why));
  }

  #tell(news: VmNews): void {
    if (this.#listeners.length === 0) this.#unheard.push(news);
    for (const listener of this.#listeners) listener(news);
  }
}

function firstLine(text: string): string {
  return text.split("\n", 1)[0] ?? text;
}
