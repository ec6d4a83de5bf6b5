// Owns: the Swagger page at /docs, which loads nothing from elsewhere. HTTP thread.
import helmet from "@fastify/helmet";
import swagger from "@fastify/swagger";
import swaggerUi from "@fastify/swagger-ui";
import type { FastifyInstance } from "fastify";

/** @param document the OpenAPI document as text; asked for when the page first needs it */
export function registerDocs(app: FastifyInstance, document: () => string): void {
  app.get("/", (_request, reply) => reply.redirect("/docs"));
  // The page fetches /docs/json, which is our document; the plugin wants one at registration too.
  app.register(swagger, {
    mode: "static",
    specification: { document: { openapi: "3.1.0" } as never },
  });
  app.register((scope, _options, done) => {
    scope.register(helmet, {
      strictTransportSecurity: false,
      contentSecurityPolicy: {
        directives: {
          defaultSrc: ["'self'"],
          imgSrc: ["'self'", "data:"],
          styleSrc: ["'self'", "'unsafe-inline'"],
          upgradeInsecureRequests: null,
        },
      },
    });
    scope.register(swaggerUi, {
      routePrefix: "/docs",
      uiConfig: { deepLinking: true, docExpansion: "none" },
      transformSpecificationClone: false,
      transformSpecification: () => JSON.parse(document()) as Record<string, never>,
    });
    done();
  });
}
