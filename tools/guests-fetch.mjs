// Owns: `npm run guests:fetch`: the Debian programs that tests want and this machine hasn't; with
// `-- --guests` also Debian's kernels and firmware for arm64, and what goes with them. Own process.
import { parseArgs } from "node:util";
import { fetchGuests, fetchTools } from "./debian-fetch.mjs";

const { values } = parseArgs({ options: { guests: { type: "boolean", default: false } } });
const say = (line) => console.log(`guests:fetch: ${line}`);
const failed = values.guests ? fetchTools(say, () => true) + fetchGuests(say) : fetchTools(say);
if (failed === 0) say(`every tool${values.guests ? " and guest" : ""} is here`);
process.exitCode = failed > 0 ? 1 : 0;
