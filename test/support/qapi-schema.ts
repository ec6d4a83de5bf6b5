// Owns: a dump of query-qmp-schema as types that can be compared, and that values can be checked
// against. Test process.

type Entity = Record<string, unknown> & { readonly name: string; readonly "meta-type": string };

interface Member {
  readonly name: string;
  readonly type: string;
  readonly default?: unknown;
}

interface Variant {
  readonly case: string;
  readonly type: string;
}

const isOptional = (member: Member): boolean => Object.hasOwn(member, "default");

export class QapiSchema {
  readonly #byName: ReadonlyMap<string, Entity>;

  constructor(entities: readonly unknown[]) {
    const all = entities as readonly Entity[];
    this.#byName = new Map(all.map((entity) => [entity.name, entity]));
  }

  get(name: string): Entity | undefined {
    return this.#byName.get(name);
  }

  /** Names of commands or events. */
  names(metaType: "command" | "event"): readonly string[] {
    return [...this.#byName.values()]
      .filter((entity) => entity["meta-type"] === metaType)
      .map(({ name }) => name);
  }

  #entity(name: unknown): Entity {
    const found = this.#byName.get(String(name));
    if (found === undefined) throw new Error(`the schema names no type ${String(name)}`);
    return found;
  }

  /** @returns what of a command or event of ours theirs says otherwise, as sentences */
  differences(name: string, theirs: QapiSchema): readonly string[] {
    const own = this.#entity(name);
    const other = theirs.get(name);
    if (other === undefined) return [`${name}: there is none`];
    if (own["meta-type"] !== other["meta-type"]) return [`${name}: it is a ${other["meta-type"]}`];
    const isEvent = own["meta-type"] === "event";
    const args = this.#compare(
      `${name}(`,
      [own["arg-type"], isEvent ? "gives" : "takes"],
      [theirs, other["arg-type"]],
    );
    if (isEvent) return args;
    const returns = [own["ret-type"], "gives"] as const;
    return [...args, ...this.#compare(`${name}:`, returns, [theirs, other["ret-type"]])];
  }

  #compare(
    where: string,
    [ours, way]: readonly [unknown, string],
    [theirs, name]: readonly [QapiSchema, unknown],
  ): readonly string[] {
    const own = this.#entity(ours);
    const other = theirs.#entity(name);
    const [kind, wanted] = [own["meta-type"], other["meta-type"]];
    if (kind !== wanted) return [`${where} is ${kind}, theirs ${wanted}`];
    switch (kind) {
      case "builtin":
        return own["json-type"] === other["json-type"]
          ? []
          : [`${where} is ${own["json-type"]}, theirs ${other["json-type"]}`];
      case "enum": {
        const known = other["values"] as readonly string[];
        return (own["values"] as readonly string[])
          .filter((value) => !known.includes(value))
          .map((value) => `${where} can't be ${value} there`);
      }
      case "array": {
        const of = [own["element-type"], way] as const;
        return this.#compare(`${where}[]`, of, [theirs, other["element-type"]]);
      }
      case "object":
        return [
          ...this.#members(where, [own, way], [theirs, other]),
          ...this.#variants(where, [own, way], [theirs, other]),
        ];
      default:
        return [`${where}: nothing is known of ${kind}`];
    }
  }

  #members(
    where: string,
    [own, way]: readonly [Entity, string],
    [theirs, other]: readonly [QapiSchema, Entity],
  ): readonly string[] {
    const [ours, known] = [own["members"] as Member[], other["members"] as Member[]];
    const own1 = ours.flatMap((member) => {
      const same = known.find(({ name }) => name === member.name);
      const at = `${where}.${member.name}`;
      if (same === undefined) return [`${at}: there is none`];
      const isStricter = way === "takes" && !isOptional(member) && isOptional(same);
      const isLooser = way === "gives" && isOptional(member) && !isOptional(same);
      return [
        ...(isStricter ? [`${at} may be absent there`] : []),
        ...(isLooser ? [`${at} is always there`] : []),
        ...this.#compare(at, [member.type, way], [theirs, same.type]),
      ];
    });
    const absent = known
      .filter((member) => !isOptional(member) && !ours.some(({ name }) => name === member.name))
      .map(({ name }) => `${where}.${name} is missing`);
    return [...own1, ...absent];
  }

  #variants(
    where: string,
    [own, way]: readonly [Entity, string],
    [theirs, other]: readonly [QapiSchema, Entity],
  ): readonly string[] {
    const [ours, known] = [variantsOf(own), variantsOf(other)];
    if (ours.length === 0 && known.length === 0) return [];
    if (own["tag"] !== other["tag"]) return [`${where} differs by ${String(other["tag"])}`];
    return ours.flatMap((variant) => {
      const same = known.find((one) => one.case === variant.case);
      if (same === undefined) return [`${where} has no variant ${variant.case} there`];
      return this.#compare(`${where}<${variant.case}>`, [variant.type, way], [theirs, same.type]);
    });
  }

  /** @returns what a command's answer has that its type has not, as sentences */
  wrongIn(command: string, value: unknown): readonly string[] {
    return this.#check(`${command}:`, this.#entity(command)["ret-type"], value);
  }

  #check(where: string, type: unknown, value: unknown): readonly string[] {
    const entity = this.#entity(type);
    const no = [`${where} is ${JSON.stringify(value)?.slice(0, 80)}, not ${entity["meta-type"]}`];
    switch (entity["meta-type"]) {
      case "builtin":
        return isOf(String(entity["json-type"]), value) ? [] : no;
      case "enum":
        return (entity["values"] as readonly unknown[]).includes(value) ? [] : no;
      case "array":
        if (!Array.isArray(value)) return no;
        return value.flatMap((item) => this.#check(`${where}[]`, entity["element-type"], item));
      case "object": {
        if (typeof value !== "object" || value === null) return no;
        const given = value as Record<string, unknown>;
        const variant = variantsOf(entity).find((one) => one.case === given[String(entity["tag"])]);
        const more = variant === undefined ? [] : this.#entity(variant.type)["members"];
        const members = [...(entity["members"] as Member[]), ...(more as Member[])];
        return [
          ...members.flatMap((member) => {
            const own = given[member.name];
            const at = `${where}.${member.name}`;
            if (own === undefined) return isOptional(member) ? [] : [`${at} is missing`];
            return this.#check(at, member.type, own);
          }),
          ...Object.keys(given)
            .filter((name) => !members.some((member) => member.name === name))
            .map((name) => `${where}.${name} is unknown there`),
        ];
      }
      default:
        return no;
    }
  }
}

function variantsOf(entity: Entity): readonly Variant[] {
  return (entity["variants"] ?? []) as readonly Variant[];
}

function isOf(jsonType: string, value: unknown): boolean {
  switch (jsonType) {
    case "string":
      return typeof value === "string";
    case "int":
      return Number.isInteger(value);
    case "number":
      return typeof value === "number";
    case "boolean":
      return typeof value === "boolean";
    case "null":
      return value === null;
    default:
      return jsonType === "value";
  }
}
