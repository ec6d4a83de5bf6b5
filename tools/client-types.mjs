// Owns: types of the API for our own client, made from openapi/openapi.json by the build. Own
// process.
import { readFileSync } from "node:fs";

const HEAD = `// Generated from openapi/openapi.json by tools/client-types.mjs; not kept in git.
// Owns: the API's shapes and routes as the command line knows them. HTTP clients.
`;
const JSON_TYPE = "application/json";
const quoted = (name) => (/^[A-Za-z_$][\w$]*$/.test(name) ? name : JSON.stringify(name));

/** One schema as a type. */
function typeOf(schema) {
  if (schema === undefined || schema === true) return "unknown";
  if (schema.$ref !== undefined) return schema.$ref.split("/").at(-1);
  if ("const" in schema) return JSON.stringify(schema.const);
  if (schema.enum !== undefined) return schema.enum.map((v) => JSON.stringify(v)).join(" | ");
  const either = schema.anyOf ?? schema.oneOf;
  if (either !== undefined) return [...new Set(either.map(typeOf))].join(" | ");
  if (Array.isArray(schema.type)) {
    return schema.type.map((type) => typeOf({ ...schema, type })).join(" | ");
  }
  switch (schema.type) {
    case "string":
      return schema.format === "binary" ? "Uint8Array" : "string";
    case "integer":
    case "number":
      return "number";
    case "boolean":
    case "null":
      return schema.type;
    case "array":
      return `readonly (${typeOf(schema.items)})[]`;
    case "object":
      return objectOf(schema);
    default:
      return "unknown";
  }
}

function objectOf(schema) {
  const required = new Set(schema.required ?? []);
  const fields = Object.entries(schema.properties ?? {}).map(
    ([name, value]) =>
      `readonly ${quoted(name)}${required.has(name) ? "" : "?"}: ${typeOf(value)};`,
  );
  if (fields.length > 0) return `{ ${fields.join(" ")} }`;
  const [pattern] = Object.values(schema.patternProperties ?? {});
  const values = pattern ?? schema.additionalProperties;
  const isOpen = values === undefined || values === false || values === true;
  return `Readonly<Record<string, ${isOpen ? "unknown" : typeOf(values)}>>`;
}

function answerOf(op) {
  // What was created says more than what was only checked.
  const answer = op.responses["201"] ?? op.responses["202"] ?? op.responses["200"];
  const schema = answer?.content?.[JSON_TYPE]?.schema;
  return schema === undefined ? "null" : typeOf(schema);
}

/** @returns the text of src/generated/client.ts */
export function clientTypes(file) {
  const document = JSON.parse(readFileSync(file, "utf8"));
  const lines = [HEAD];
  for (const [name, schema] of Object.entries(document.components.schemas)) {
    lines.push(`export type ${name} = ${typeOf(schema)};`);
  }
  const operations = Object.entries(document.paths).flatMap(([path, item]) =>
    Object.entries(item).map(([method, op]) => ({ path, method: method.toUpperCase(), op })),
  );
  lines.push("", "/** operationId → what it takes and answers as JSON. */");
  lines.push("export interface Operations {");
  for (const { op } of operations) {
    const body = op.requestBody?.content?.[JSON_TYPE]?.schema;
    const given = body === undefined ? "null" : typeOf(body);
    lines.push(
      `  ${op.operationId}: { readonly body: ${given}; readonly answer: ${answerOf(op)} };`,
    );
  }
  lines.push("}", "", "/** operationId → method and path. */", "export const ROUTES = {");
  for (const { path, method, op } of operations) {
    lines.push(`  ${op.operationId}: ["${method}", ${JSON.stringify(path)}],`);
  }
  lines.push("} as const satisfies Readonly<Record<keyof Operations, readonly [string, string]>>;");
  return `${lines.join("\n")}\n`;
}
