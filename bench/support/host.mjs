// Owns: the process that is measured: the whole service on a loopback port, and a bare Fastify
// beside it that the ratios compare with. Started by host-process.ts; plain JavaScript, because a
// TypeScript loader would live in every VM thread, too. Ends when its parent goes away.
import Fastify from "fastify";
import { createHost } from "../../dist/app.js";
import { loadConfig } from "../../dist/config.js";

const LOOPBACK = "127.0.0.1";
const host = await createHost(loadConfig(JSON.parse(process.argv[2] ?? "{}")));
await host.app.listen({ host: LOOPBACK, port: 0 });

let octets = Buffer.alloc(0);
let object = {};
const bare = Fastify({ logger: false });
bare.get("/octets", (_request, reply) => reply.type("application/octet-stream").send(octets));
bare.get("/json", (_request, reply) => reply.send(object));
await bare.listen({ host: LOOPBACK, port: 0 });

async function end() {
  await bare.close();
  await host.close();
  if (process.connected) process.disconnect();
}

/** Memory after a collection, so that garbage counts for nothing. */
function usage() {
  globalThis.gc?.();
  globalThis.gc?.();
  return process.memoryUsage();
}

process.on("message", (message) => {
  if (message.kind === "end") {
    void end();
    return;
  }
  if (message.kind === "octets") octets = Buffer.alloc(message.bytes, 0x5a);
  if (message.kind === "json") object = JSON.parse(message.text);
  process.send({ id: message.id, value: message.kind === "usage" ? usage() : null });
});
process.once("disconnect", () => void end());
process.send({
  id: -1,
  value: { port: host.app.server.address().port, barePort: bare.server.address().port },
});
