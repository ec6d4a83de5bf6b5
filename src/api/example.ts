// Owns: an example value for any schema of the API, taken from the examples of its leaves, so that
// every body and answer in the document has one that can't drift from its schema. HTTP thread.
import type { TSchema } from "typebox";

interface Node {
  readonly type?: string;
  readonly const?: unknown;
  readonly enum?: readonly unknown[];
  readonly default?: unknown;
  readonly examples?: readonly unknown[];
  readonly anyOf?: readonly Node[];
  readonly oneOf?: readonly Node[];
  readonly items?: Node;
  readonly prefixItems?: readonly Node[];
  readonly properties?: Readonly<Record<string, Node>>;
  readonly minimum?: number;
}

function exampleOfObject(node: Node): unknown {
  const out: Record<string, unknown> = {};
  for (const [name, property] of Object.entries(node.properties ?? {})) {
    const value = exampleOfNode(property);
    if (value !== undefined) out[name] = value;
  }
  return out;
}

function exampleOfNode(node: Node): unknown {
  if (node.examples !== undefined && node.examples.length > 0) return node.examples[0];
  if (node.const !== undefined) return node.const;
  if (node.enum !== undefined) return node.enum[0];
  if (node.default !== undefined) return node.default;
  const choices = node.anyOf ?? node.oneOf;
  if (choices?.[0] !== undefined) return exampleOfNode(choices[0]);
  switch (node.type) {
    case "object":
      return exampleOfObject(node);
    case "array":
      if (node.prefixItems !== undefined) return node.prefixItems.map(exampleOfNode);
      return node.items === undefined ? [] : [exampleOfNode(node.items)];
    case "integer":
    case "number":
      return node.minimum ?? 0;
    case "boolean":
      return false;
    case "string":
      return "text";
    default:
      return null;
  }
}

/** @returns a value that the schema admits, built from the examples of its leaves. */
export function exampleOf(schema: TSchema): unknown {
  return exampleOfNode(schema as Node);
}
