// Owns: `npm start`: build what is missing, then become the service. Same process (package.json
// says `exec`), so that a signal sent to npm reaches it and nothing is left behind.
import { fileURLToPath } from "node:url";
import { build } from "./build.mjs";

/** Ctrl-C signals the whole group, and npm passes its own on: one signal, milliseconds apart. */
const ECHO_MS = 500;

/** A second signal means "stop at once" to the service; an echo must not. */
function dropEchoes() {
  const lastAt = new Map();
  const emit = process.emit;
  process.emit = function (event, ...rest) {
    if (event === "SIGINT" || event === "SIGTERM") {
      const now = Date.now();
      const echo = now - (lastAt.get(event) ?? 0) < ECHO_MS;
      if (echo) return true;
      lastAt.set(event, now);
    }
    return emit.call(this, event, ...rest);
  };
}

try {
  build();
} catch (error) {
  console.error(`start: ${error.message}`);
  process.exit(1);
}
dropEchoes();
const main = new URL("../dist/main.js", import.meta.url);
process.argv[1] = fileURLToPath(main);
await import(main.href);
