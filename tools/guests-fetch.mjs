// Owns: `npm run guests:fetch`: the Debian programs that tests want and this machine hasn't; with
// `-- --guests` also Debian's kernels and firmware for arm64. Own process.
import { parseArgs } from "node:util";
import { fetchGuests, fetchTools } from "./debian-fetch.mjs";

const { values } = parseArgs({ options: { guests: { type: "boolean", default: false } } });
const say = (line) => console.log(`guests:fetch: ${line}`);
const failed = fetchTools(say) + (values.guests ? fetchGuests(say) : 0);
if (failed === 0) say(`every tool${values.guests ? " and guest" : ""} is here`);
process.exitCode = failed > 0 ? 1 : 0;
