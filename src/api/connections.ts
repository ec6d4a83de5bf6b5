// Owns: ending connections when the service exits: after their answers, not before. HTTP thread.
// A server that closes waits for every socket, also for one that a client only opened in advance;
// such a socket would hold the exit until the client gives up.
import type { FastifyInstance } from "fastify";
import type { Lifecycle } from "./lifecycle.js";

export function registerConnections(app: FastifyInstance, lifecycle: Lifecycle): void {
  const { server } = app;
  let open = 0;
  let isClosing = false;
  const settle = () => {
    if (isClosing && open === 0) server.closeAllConnections();
  };
  server.on("request", (_request, response) => {
    open += 1;
    response.once("close", () => {
      open -= 1;
      settle();
    });
  });
  server.on("connection", (socket) => {
    if (isClosing) socket.destroy();
  });
  app.addHook("preClose", (done) => {
    lifecycle.close();
    isClosing = true;
    settle();
    done();
  });
}
