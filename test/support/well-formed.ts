// Owns: whether a text is well-formed XML, as far as a picture uses it. Test process.
// @source XML 1.0, productions 1, 2, 14, 39 to 44, 66 to 68

const TOKEN = /<!--[\s\S]*?-->|<(\/?)([A-Za-z][\w:.-]*)((?:\s+[\w:.-]+="[^"<]*")*)\s*(\/?)>/gy;
const TEXT = /[^<]*/y;
const ENTITY = /&(?!(?:amp|lt|gt|quot|apos|#[0-9]+|#x[0-9a-fA-F]+);)/;
const NO_CHARACTER = /[^\t\n\r\u{20}-\u{d7ff}\u{e000}-\u{fffd}\u{10000}-\u{10ffff}]/u;

/** What is wrong with it, or null. */
export function malformed(xml: string): string | null {
  if (ENTITY.test(xml)) return "an & that is no entity";
  if (NO_CHARACTER.test(xml)) return "a character that XML has no place for";
  const open: string[] = [];
  let roots = 0;
  let at = 0;
  while (at < xml.length) {
    TEXT.lastIndex = at;
    const [text = ""] = TEXT.exec(xml) ?? [];
    if (open.length === 0 && text.trim() !== "") return `text outside of the root: ${text}`;
    at += text.length;
    if (at === xml.length) break;
    TOKEN.lastIndex = at;
    const token = TOKEN.exec(xml);
    if (token === null) return `no tag: ${xml.slice(at, at + 40)}`;
    at += token[0].length;
    const [, closes, name, attributes = "", isEmpty] = token;
    if (name === undefined) continue;
    const names = [...attributes.matchAll(/([\w:.-]+)="/g)].map(([, attribute]) => attribute);
    if (new Set(names).size !== names.length) return `<${name}> has an attribute twice`;
    if (closes === "/") {
      const last = open.pop();
      if (last !== name) return `</${name}> ends <${last}>`;
      continue;
    }
    if (open.length === 0 && ++roots > 1) return "two roots";
    if (isEmpty !== "/") open.push(name);
  }
  if (open.length > 0) return `<${open.at(-1)}> has no end`;
  return roots === 1 ? null : "no root";
}
