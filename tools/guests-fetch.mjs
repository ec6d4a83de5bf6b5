// Owns: `npm run guests:fetch`: the Debian programs that tests want and this machine hasn't.
// Own process.
import { fetchTools } from "./debian.mjs";

const failed = fetchTools((line) => console.log(`guests:fetch: ${line}`));
if (failed === 0) console.log("guests:fetch: every tool is here");
process.exitCode = failed > 0 ? 1 : 0;
