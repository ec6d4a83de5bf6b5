// Owns: making a bearer token: shows it once, keeps only its digest. Own process.
// Usage: npm run token -- [--name NAME] [--scopes a,b] [--file PATH]
import { createHash, randomBytes } from "node:crypto";
import { appendFileSync, existsSync, mkdirSync, readFileSync } from "node:fs";
import { dirname } from "node:path";
import { parseArgs } from "node:util";

const { values } = parseArgs({
  options: {
    name: { type: "string", default: "operator" },
    scopes: { type: "string", default: "*" },
    file: { type: "string", default: "data/tokens" },
  },
});
const { name, scopes, file } = values;

if (!/^[\w.-]+$/.test(name) || !/^(\*|[a-z]+:[a-z]+(,[a-z]+:[a-z]+)*)$/.test(scopes)) {
  console.error("token: --name takes letters, digits and .-_ ; --scopes takes * or a:b,c:d");
  process.exit(2);
}
const known = existsSync(file) ? readFileSync(file, "utf8").split("\n") : [];
if (known.some((line) => line.split(/\s+/)[0] === name)) {
  console.error(`token: ${file} has a token "${name}" already; remove its line to replace it`);
  process.exit(1);
}
const token = randomBytes(32).toString("base64url");
const digest = createHash("sha256").update(token).digest("hex");
mkdirSync(dirname(file), { recursive: true });
const end = known.length > 0 && known.at(-1) !== "" ? "\n" : "";
// Digests are no secrets: a container's user, who is somebody else, may read them.
appendFileSync(file, `${end}${name} ${scopes} ${digest}\n`, { mode: 0o644 });
console.error(`token: added "${name}" to ${file}; the token is shown this once:`);
console.log(token);
