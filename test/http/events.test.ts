// Goal: the history as a list and as a stream: order, replay, gap, heartbeat, end.
// Method: a raw SSE reader on a real socket over fake services.
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type Face, openFace } from "../support/http.js";

let face: Face;
beforeEach(async () => {
  face = await openFace();
});
afterEach(() => face.close());

interface Message {
  readonly id?: string;
  readonly event?: string;
  readonly data?: Record<string, unknown>;
}

/** Reads a stream until `enough` says so, or it ends. */
async function read(
  headers: Record<string, string>,
  enough: (messages: readonly Message[], text: string) => boolean,
  url = "/v1/events",
): Promise<{ messages: readonly Message[]; text: string; ended: boolean }> {
  const abort = new AbortController();
  const answer = await fetch(`${face.origin}${url}`, {
    headers: { accept: "text/event-stream", ...headers },
    signal: abort.signal,
  });
  expect(answer.status).toBe(200);
  expect(answer.headers.get("content-type")).toBe("text/event-stream");
  const reader = answer.body?.getReader();
  let text = "";
  for (;;) {
    const messages = parse(text);
    if (enough(messages, text)) {
      abort.abort();
      return { messages, text, ended: false };
    }
    const chunk = await reader?.read();
    if (chunk?.done !== false) return { messages: parse(text), text, ended: true };
    text += Buffer.from(chunk.value).toString("utf8");
  }
}

function parse(text: string): readonly Message[] {
  return text
    .split("\n\n")
    .slice(0, -1)
    .filter((block) => !block.startsWith(":"))
    .map((block) => {
      const fields = Object.fromEntries(
        block.split("\n").map((line) => [line.split(": ")[0], line.slice(line.indexOf(": ") + 2)]),
      );
      return { ...fields, data: JSON.parse(fields["data"] ?? "null") } as Message;
    });
}

const names = (messages: readonly Message[]) => messages.map(({ event }) => event);

describe("list", () => {
  it("pages by id and tells a gap", async () => {
    for (let i = 0; i < 5; i++) face.control.announce("vm.created", `vms/vm_${i}`);
    const first = await face.call("get", "/v1/events?limit=2").expect(200);
    expect(first.body.items.map(({ id }: { id: number }) => id)).toEqual([1, 2]);
    expect(first.headers["link"]).toContain("after=2");
    const rest = await face.call("get", "/v1/events?after=2&limit=100").expect(200);
    expect(rest.body).toMatchObject({ gap: false, oldest: 1, newest: 5 });
    expect(rest.headers["link"]).toBeUndefined();
    face.control.loseEvents(3);
    expect((await face.call("get", "/v1/events?after=1")).body.gap).toBe(true);
  });

  it("is JSON unless the stream is asked for", async () => {
    const any = await face.call("get", "/v1/events").set("accept", "*/*");
    expect(any.headers["content-type"]).toContain("application/json");
    await face.call("get", "/v1/events").set("accept", "text/html").expect(406);
  });
});

describe("stream", () => {
  it("begins with server.ready and then tells only what is new", async () => {
    face.control.announce("vm.created", "vms/old");
    const reading = read({}, (messages) => messages.length === 3);
    await new Promise((resolve) => setTimeout(resolve, 100));
    face.control.announce("vm.created", "vms/a");
    face.control.announce("vm.deleted", "vms/a");
    const { messages } = await reading;
    expect(names(messages)).toEqual(["server.ready", "vm.created", "vm.deleted"]);
    expect(messages[0]).toMatchObject({ id: "1", data: { newest: 1, after: 1 } });
    expect(messages[1]).toMatchObject({ id: "2", data: { id: 2, subject: "vms/a" } });
  });

  it("replays what was missed since Last-Event-ID, or after", async () => {
    for (let i = 0; i < 1200; i++) face.control.announce("tick", "server");
    const enough = (messages: readonly Message[]) => messages.length === 1001;
    const { messages } = await read({ "last-event-id": "200" }, enough);
    expect(messages[1]?.id).toBe("201");
    expect(messages.at(-1)?.id).toBe("1200");
    const after = await read({}, (m) => m.length === 3, "/v1/events?after=1198");
    expect(after.messages.map(({ id }) => id)).toEqual(["1198", "1199", "1200"]);
  });

  it("tells a gap where history is lost", async () => {
    for (let i = 0; i < 10; i++) face.control.announce("tick", "server");
    face.control.loseEvents(6);
    const { messages } = await read({ "last-event-id": "2" }, (m) => m.length === 6);
    expect(names(messages)).toEqual(["server.ready", "gap", "tick", "tick", "tick", "tick"]);
    expect(messages[1]).toMatchObject({ id: "6", data: { after: 2, next: 7 } });
  });

  it("sends a comment now and then", async () => {
    const { text } = await read({}, (_messages, t) => t.includes(": heartbeat"));
    expect(text).toContain(": heartbeat\n\n");
  });

  it("ends when the service drains", async () => {
    const reading = read({}, () => false);
    await new Promise((resolve) => setTimeout(resolve, 100));
    face.api.lifecycle.drain();
    const { messages, ended } = await reading;
    expect(ended).toBe(true);
    expect(names(messages)).toEqual(["server.ready", "server.draining"]);
  });

  it("refuses a Last-Event-ID that is no id", async () => {
    const answer = await face
      .call("get", "/v1/events")
      .set("accept", "text/event-stream")
      .set("last-event-id", "x");
    expect(answer.body).toMatchObject({ status: 400, code: "validation" });
  });

  it("forgets a reader that went away", async () => {
    await read({}, (messages) => messages.length === 1);
    await new Promise((resolve) => setTimeout(resolve, 50));
    face.control.announce("tick", "server");
    await new Promise((resolve) => setTimeout(resolve, 50));
    const { text } = await face.call("get", "/metrics");
    expect(text).toContain("tidemark_event_streams 0");
  });
});
