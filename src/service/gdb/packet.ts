// Owns: framing of GDB's remote protocol: packets, acknowledgements, escapes, the interrupt byte.
// HTTP thread. Bytes are latin1 text in here: one character is one byte.
// @source GDB manual, appendix E.1
import { PACKET_BYTES_MAX } from "./limits.js";

export type Frame =
  | { readonly kind: "packet"; readonly body: string }
  /** A packet whose checksum is wrong: ask for it again. */
  | { readonly kind: "damaged" }
  | { readonly kind: "ack" | "nack" | "interrupt" }
  /** More than a packet may have: nothing after it can be understood. */
  | { readonly kind: "too-long" };

/** EINVAL, EFAULT, EBUSY as error replies; GDB shows the digits and knows no more of them. */
export const ERROR = { INVALID: "E16", FAULT: "E0e", BUSY: "E10" } as const;

const INTERRUPT = "\x03";
const ESCAPE = "}";
const ESCAPE_BIT = 0x20;
/** Checksum characters behind "#". */
const SUM_LENGTH = 2;

function checksum(text: string): number {
  let sum = 0;
  for (let at = 0; at < text.length; at++) sum += text.charCodeAt(at);
  return sum & 0xff;
}

/** A packet as it is sent; a reply's own "}", "$", "#" and "*" are escaped. */
export function frame(body: string): string {
  const escaped = body.replace(/[}$#*]/g, (character) => {
    return ESCAPE + String.fromCharCode(character.charCodeAt(0) ^ ESCAPE_BIT);
  });
  return `$${escaped}#${checksum(escaped).toString(16).padStart(SUM_LENGTH, "0")}`;
}

function unescaped(body: string): string {
  return body.replace(/\}([\s\S])/g, (_all, character: string) => {
    return String.fromCharCode(character.charCodeAt(0) ^ ESCAPE_BIT);
  });
}

/** Cuts a stream of bytes into frames; what is no frame is skipped. */
export class FrameReader {
  /** null between packets; else what came behind "$". */
  #packet: string | null = null;

  /** @returns what the bytes completed, in order */
  *feed(bytes: string): Generator<Frame> {
    let at = 0;
    while (at < bytes.length) {
      if (this.#packet === null) {
        const character = bytes[at++];
        if (character === "$") this.#packet = "";
        else if (character === "+") yield { kind: "ack" };
        else if (character === "-") yield { kind: "nack" };
        else if (character === INTERRUPT) yield { kind: "interrupt" };
        continue;
      }
      // Enough for the longest packet there may be; the rest waits for the next turn.
      const piece = bytes.slice(at, at + PACKET_BYTES_MAX);
      at += piece.length;
      const before: number = this.#packet.length;
      const packet: string = this.#packet + piece;
      const end = packet.indexOf("#", Math.max(0, before - SUM_LENGTH));
      if (end > PACKET_BYTES_MAX || (end < 0 && packet.length > PACKET_BYTES_MAX)) {
        this.#packet = null;
        yield { kind: "too-long" };
        return;
      }
      this.#packet = packet;
      if (end < 0 || packet.length < end + 1 + SUM_LENGTH) continue;
      this.#packet = null;
      at -= packet.length - (end + 1 + SUM_LENGTH);
      yield completed(packet.slice(0, end), packet.slice(end + 1, end + 1 + SUM_LENGTH));
    }
  }
}

function completed(body: string, sum: string): Frame {
  const isWhole = /^[0-9a-fA-F]{2}$/.test(sum) && parseInt(sum, 16) === checksum(body);
  return isWhole ? { kind: "packet", body: unescaped(body) } : { kind: "damaged" };
}
