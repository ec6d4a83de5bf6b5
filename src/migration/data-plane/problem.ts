// Owns: refusals of the data plane as problem+json, there and back. Data-plane thread.
import { type IncomingMessage, STATUS_CODES } from "node:http";
import { StreamError } from "../wire/stream-error.js";

/** RFC 9457, with a stable word for machines. */
interface Problem {
  readonly type: "about:blank";
  readonly title: string;
  readonly status: number;
  readonly code: string;
  readonly detail: string;
}

/** Codes that have a status of their own; the rest is 422. */
const STATUS: Readonly<Record<string, number>> = {
  "stream-request": 400,
  "stream-corrupt": 400,
  "stream-unauthorized": 401,
  "stream-not-found": 404,
  "stream-method": 405,
  "stream-offset": 409,
  "stream-displaced": 409,
  "frame-order": 409,
  "stream-media-type": 415,
  "stream-busy": 503,
};
const BODY_CHARS_MAX = 16_384;

/** What has failed here is told as a refusal, too. */
export function streamErrorOf(error: unknown): StreamError {
  if (error instanceof StreamError) return error;
  return new StreamError("target-failed", String(error), true);
}

export function problemOf(error: StreamError): Problem {
  const status = STATUS[error.code] ?? 422;
  const title = STATUS_CODES[status] ?? "Refused";
  return { type: "about:blank", title, status, code: error.code, detail: error.message };
}

/** A line of an answer, or its whole body, that may be a problem. @returns null: it is none */
export function errorOfProblem(text: string): StreamError | null {
  try {
    const { status, code, detail } = JSON.parse(text) as Partial<Problem>;
    if (typeof status !== "number" || typeof code !== "string") return null;
    // Who is busy, or is further than we thought, can be asked again.
    const isFinal = status !== 409 && status !== 400 && status < 500;
    return new StreamError(code, String(detail), isFinal || code === "stream-request");
  } catch {
    return null;
  }
}

/** Reads a short body. */
export async function bodyOf(message: IncomingMessage): Promise<string> {
  message.setEncoding("utf8");
  let text = "";
  for await (const chunk of message) {
    text += String(chunk);
    if (text.length > BODY_CHARS_MAX) break;
  }
  return text;
}
