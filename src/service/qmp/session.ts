// Owns: one client's session: greeting, agreement on capabilities, one command after the other.
// HTTP thread.
import { KvmError, ServiceError } from "../../base/errors.js";
import type { Log } from "../../base/log.js";
import type { Command, Face } from "./command.js";
import { COMMANDS, versionInfo } from "./command.table.js";
import { isObject, type Json, JsonError, type JsonObject, parseJson, writeJson } from "./json.js";
import { JsonStream, type Piece } from "./json-stream.js";
import { QmpError, requireMembers } from "./qapi.js";

const MEMBERS = new Set(["execute", "arguments", "id"]);
const LINE_END = "\r\n";

interface Parts {
  readonly face: Face;
  readonly log: Log;
  /** One line; resolves when the client takes more, or is gone. */
  readonly send: (line: string) => Promise<void>;
  readonly counts: { commands: number; errors: number };
}

export class Session {
  readonly #parts: Parts;
  readonly #stream = new JsonStream();
  #isNegotiating = true;
  #isClosed = false;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** Before that a client is told of nothing. */
  get takesEvents(): boolean {
    return !this.#isNegotiating && !this.#isClosed;
  }

  async greet(): Promise<void> {
    const version = versionInfo(this.#parts.face.version);
    await this.#send({ QMP: { version, capabilities: [] } });
  }

  /** Answers every command that ends with these bytes, in order. Never rejects. */
  async receive(bytes: Uint8Array): Promise<void> {
    for (const piece of this.#stream.take(bytes)) {
      if (this.#isClosed) return;
      await this.#answer(piece);
    }
  }

  close(): void {
    this.#isClosed = true;
  }

  async #answer(piece: Piece): Promise<void> {
    const { counts, log, face } = this.#parts;
    let id: JsonObject = {};
    try {
      const request = requestOf(piece);
      const given = request["id"];
      if (given !== undefined) id = { id: given };
      counts.commands++;
      const { command, args } = this.#commandOf(request);
      const value = command === null ? undefined : await command.run(face, args);
      await this.#send({ return: value ?? {}, ...id });
    } catch (error) {
      counts.errors++;
      if (!isRefusal(error)) log.error({ vmId: face.vm.id, err: error }, "A QMP command failed.");
      await this.#send({ error: errorOf(error), ...id });
    }
  }

  /** @returns null: the client has agreed on capabilities. @throws QmpError */
  #commandOf(request: JsonObject): { command: Command | null; args: JsonObject } {
    for (const name of Object.keys(request)) {
      if (!MEMBERS.has(name)) throw new QmpError(`A command has no '${name}'.`);
    }
    const { execute: name, arguments: args = {} } = request;
    if (name === undefined) throw new QmpError("'execute' is missing.");
    if (typeof name !== "string") throw new QmpError("'execute' must be a string.");
    if (!isObject(args)) throw new QmpError("'arguments' must be an object.");
    const isAgreement = name === "qmp_capabilities";
    if (this.#isNegotiating && !isAgreement) {
      throw new QmpError("Begin with qmp_capabilities.", "CommandNotFound");
    }
    const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
    if (command === undefined) {
      throw new QmpError(`There is no command ${name}.`, "CommandNotFound");
    }
    for (const [argument, why] of Object.entries(command.explains ?? {})) {
      if (args[argument] !== undefined) throw new QmpError(why);
    }
    requireMembers(command.args, args);
    if (!this.#isNegotiating || !isAgreement) return { command, args };
    this.#isNegotiating = false;
    return { command: null, args };
  }

  async #send(message: JsonObject): Promise<void> {
    if (this.#isClosed) return;
    await this.#parts.send(`${writeJson(message)}${LINE_END}`);
  }
}

/** @throws QmpError, JsonError */
function requestOf(piece: Piece): JsonObject {
  if ("wrong" in piece) throw new QmpError(piece.wrong);
  const value = parseJson(piece.text);
  if (isObject(value)) return value;
  throw new QmpError("A command is a JSON object.");
}

function isRefusal(error: unknown): error is Error {
  return (
    error instanceof QmpError ||
    error instanceof JsonError ||
    error instanceof ServiceError ||
    error instanceof KvmError
  );
}

function errorOf(error: unknown): { class: string; desc: string } & Record<string, Json> {
  if (error instanceof QmpError) return { class: error.class, desc: error.message };
  const desc = isRefusal(error) ? error.message : "An internal error; the service's log has it.";
  return { class: "GenericError", desc };
}
