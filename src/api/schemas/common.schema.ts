// Owns: the small shapes that every resource uses: u32 and u64 text, pages, problems. HTTP thread.
import Type, { type TSchema } from "typebox";
import { parseU64 } from "../../base/hex.js";

export const U32_MAX = 0xffff_ffff;

/** Every object of the API refuses unknown fields. */
export const closed = { additionalProperties: false } as const;

/** A u64 that a client sends: "0x…" or decimal text. */
export function u64(description: string, example = "0x1000") {
  const text = Type.String({
    pattern: "^(0x[0-9a-fA-F]{1,16}|[0-9]{1,20})$",
    maxLength: 20,
    description: `${description} A u64 as "0x…" or decimal text.`,
    examples: [example],
  });
  return Type.Refine(
    text,
    (value) => parseU64(value) !== undefined,
    () => "is not a u64: 0x0 to 0xffffffffffffffff",
  );
}

/** A u64 that the service answers: always lower-case "0x…" without leading zeros. */
export function hexU64(description: string, example = "0x1000") {
  return Type.String({
    pattern: "^0x(0|[1-9a-f][0-9a-f]{0,15})$",
    description,
    examples: [example],
  });
}

export function u32(description: string, example = 0) {
  return Type.Integer({ minimum: 0, maximum: U32_MAX, description, examples: [example] });
}

/** A count or an absolute index; exact up to 2^53 - 1. */
export function count(description: string, example = 0) {
  return Type.Integer({
    minimum: 0,
    maximum: Number.MAX_SAFE_INTEGER,
    description,
    examples: [example],
  });
}

export function text(description: string, example: string, maxLength = 1024) {
  return Type.String({ maxLength, description, examples: [example] });
}

export function time(description: string) {
  return Type.String({
    format: "date-time",
    description,
    examples: ["2026-11-20T12:00:00.000Z"],
  });
}

export function base64(description: string) {
  return Type.String({
    pattern: "^[A-Za-z0-9+/]*={0,2}$",
    description: `${description} Standard base64 with padding.`,
    examples: ["AQAAAAAAAAA="],
  });
}

export function nullable<T extends TSchema>(schema: T) {
  return Type.Union([schema, Type.Null()]);
}

/** One of some words. */
export function word<const T extends readonly string[]>(
  values: T,
  description: string,
  example: T[number],
) {
  return Type.Unsafe<T[number]>({ type: "string", enum: values, description, examples: [example] });
}

/** A few bytes as text: two hexadecimal digits each, in memory order. */
export function bytesText(description: string, maxBytes: number) {
  return Type.String({
    pattern: "^([0-9a-fA-F]{2})*$",
    maxLength: 2 * maxBytes,
    description,
    examples: ["2a000000"],
  });
}

const BINARY = Symbol("binary");

/** An octet-stream body; its bytes are read by content.ts and not checked by a schema. */
export function binary(description: string) {
  const schema = Type.Unsafe<Uint8Array>({ type: "string", format: "binary", description });
  Object.defineProperty(schema, BINARY, { value: true, enumerable: false });
  return schema;
}

export function isBinarySchema(schema: unknown): boolean {
  return typeof schema === "object" && schema !== null && BINARY in schema;
}

export const LIMIT_DEFAULT = 100;
export const LIMIT_MAX = 1000;

export const limit = Type.Optional(
  Type.Integer({
    minimum: 1,
    maximum: LIMIT_MAX,
    default: LIMIT_DEFAULT,
    description: "Items at most in the answer.",
  }),
);
export const cursor = Type.Optional(
  Type.String({
    maxLength: 512,
    description: "`nextCursor` of the page before; opaque.",
  }),
);
export const PageQuery = Type.Object({ limit, cursor }, closed);

export const WAIT_MAX_S = 60;
export const wait = Type.Optional(
  Type.Integer({
    minimum: 0,
    maximum: WAIT_MAX_S,
    default: 0,
    description: "Seconds that the answer may wait for the change.",
    examples: [10],
  }),
);

/** `{items, nextCursor}` of a resource. */
export function pageOf<T extends TSchema>(id: string, item: T) {
  return Type.Object(
    {
      items: Type.Array(item),
      nextCursor: nullable(
        Type.String({ description: "Give it as `cursor` for the next page; null at the end." }),
      ),
    },
    { ...closed, $id: id, description: "One page of a collection, in a stable order." },
  );
}

const vm = Type.String({
  minLength: 1,
  maxLength: 64,
  description: "Id of the VM.",
  examples: ["vm_01hqs4ym8x"],
});
const vcpu = Type.Integer({
  minimum: 0,
  maximum: U32_MAX,
  description: "vCPU id as given to KVM_CREATE_VCPU.",
  examples: [0],
});
const slot = Type.Integer({
  minimum: 0,
  maximum: U32_MAX,
  description: "Slot number; bits 31:16 are the address space, which must be 0 on arm64.",
  examples: [0],
});

export const VmParams = Type.Object({ vm }, closed);
export const VcpuParams = Type.Object({ vm, n: vcpu }, closed);
export const SlotParams = Type.Object({ vm, slot }, closed);

/** Path parameters of a VM and one more. */
export function vmParams<const K extends string, T extends TSchema>(name: K, schema: T) {
  return Type.Object({ vm, [name]: schema } as { vm: typeof vm } & { [key in K]: T }, closed);
}
/** Path parameters of a vCPU and one more. */
export function vcpuParams<const K extends string, T extends TSchema>(name: K, schema: T) {
  return Type.Object(
    { vm, n: vcpu, [name]: schema } as { vm: typeof vm; n: typeof vcpu } & { [key in K]: T },
    closed,
  );
}
/** Path parameters of a memslot and one more. */
export function slotParams<const K extends string, T extends TSchema>(name: K, schema: T) {
  return Type.Object(
    { vm, slot, [name]: schema } as { vm: typeof vm; slot: typeof slot } & { [key in K]: T },
    closed,
  );
}

export const ProblemSchema = Type.Object(
  {
    type: Type.String({
      description: "URI reference of the kind of problem; it has a page.",
      examples: ["/problems/kvm-errno"],
    }),
    title: Type.String({ examples: ["Invalid argument"] }),
    status: Type.Integer({ minimum: 400, maximum: 599, examples: [422] }),
    detail: Type.String({
      description: "What went wrong this time, and what to do.",
      examples: ["The memory size 0x1001 is not a multiple of the page size 4096."],
    }),
    instance: Type.String({ examples: ["/v1/vms/vm_01hqs4ym8x/memslots/0"] }),
    code: Type.String({
      description: "Machine-readable kind; new ones may appear.",
      examples: ["kvm-errno"],
    }),
    errno: Type.Optional(
      Type.String({
        pattern: "^E[A-Z0-9]+$",
        description: "Linux name of the error, when KVM refused.",
        examples: ["EINVAL"],
      }),
    ),
    errnoValue: Type.Optional(Type.Integer({ minimum: 1, examples: [22] })),
    ioctl: Type.Optional(Type.String({ examples: ["KVM_SET_USER_MEMORY_REGION"] })),
    errors: Type.Optional(
      Type.Array(
        Type.Object(
          {
            pointer: Type.String({
              description: "JSON Pointer into the body; /query and /path for the URL.",
            }),
            detail: Type.String(),
          },
          closed,
        ),
        { description: "Every place whose shape is wrong.", examples: [[]] },
      ),
    ),
    traceId: Type.String({
      pattern: "^[0-9a-f]{32}$",
      examples: ["4bf92f3577b34da6a3ce929d0e0e4736"],
    }),
  },
  { $id: "Problem", additionalProperties: true, description: "RFC 9457 problem details." },
);
