// Owns: fields that shapes of experiments share. HTTP thread.
import Type from "typebox";

export const integer = (minimum: number, maximum: number, description: string, example: number) =>
  Type.Integer({ minimum, maximum, description, examples: [example] });
export const oneOf = <const V extends readonly string[]>(
  values: V,
  description: string,
  example: V[number],
) =>
  Type.Union(
    values.map((value) => Type.Literal(value)) as unknown as {
      [K in keyof V]: ReturnType<typeof Type.Literal<V[K] & string>>;
    } & [],
    { description, examples: [example] },
  );
export const number = (description: string, example: number) =>
  Type.Number({ minimum: 0, description, examples: [example] });
export const seed = Type.String({
  pattern: "^(0x[0-9a-fA-F]{1,16}|[0-9]{1,19})$",
  description: "Seeds the workload and the VM; a u64 as text.",
  examples: ["0x1"],
});
