// Owns: a client that follows the service's events until the connection breaks. Test process.

export interface Message {
  readonly id: string;
  readonly event: string;
  // biome-ignore lint/suspicious/noExplicitAny: tests look into events freely
  readonly data: any;
}

function parse(block: string): Message | null {
  const fields = new Map<string, string>();
  for (const line of block.split("\n")) {
    const at = line.indexOf(": ");
    if (at > 0) fields.set(line.slice(0, at), line.slice(at + 2));
  }
  const data = fields.get("data");
  if (data === undefined) return null;
  const event = fields.get("event") ?? "message";
  return { id: fields.get("id") ?? "", event, data: JSON.parse(data) };
}

/** Follows from `lastId`; what comes is added to `seen`. Ends with the connection. */
export class Follower {
  readonly seen: Message[] = [];
  readonly #abort = new AbortController();
  readonly ended: Promise<void>;

  constructor(origin: string, lastId: string | null) {
    this.ended = this.#follow(origin, lastId).catch(() => {});
  }

  stop(): Promise<void> {
    this.#abort.abort();
    return this.ended;
  }

  async #follow(origin: string, lastId: string | null): Promise<void> {
    const last = lastId === null ? {} : { "last-event-id": lastId };
    const answer = await fetch(`${origin}/v1/events`, {
      headers: { accept: "text/event-stream", ...last },
      signal: this.#abort.signal,
    });
    const decoder = new TextDecoder();
    let rest = "";
    for await (const chunk of answer.body ?? []) {
      rest += decoder.decode(chunk as Uint8Array, { stream: true });
      const blocks = rest.split("\n\n");
      rest = blocks.pop() ?? "";
      for (const block of blocks) {
        const message = parse(block);
        if (message !== null) this.seen.push(message);
      }
    }
  }
}
