# Owns: the service's image. Build: `docker build -t tidemark .`; two hosts: docker-compose.yml.
# The service migrates its own database when it starts; the image has no Prisma command line.
FROM node:20-bookworm-slim AS base
WORKDIR /app

FROM base AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends g++ make python3 \
 && rm -rf /var/lib/apt/lists/*
# The image has its own Node's headers; a compilation then downloads nothing.
ENV npm_config_nodedir=/usr/local
COPY package.json package-lock.json .npmrc ./
RUN npm ci
COPY tsconfig.json prisma.config.ts ./
COPY prisma ./prisma
COPY openapi ./openapi
COPY tools ./tools
COPY src ./src
RUN node tools/build.mjs
# Only what runs: Prisma's command line is an optional peer of its client, and the client carries
# query compilers of databases that are not SQLite.
RUN npm prune --omit=dev --omit=optional --omit=peer \
 && find node_modules/@prisma/client/runtime -name '*_bg.*' ! -name '*sqlite*' -delete

FROM base AS run
ENV NODE_ENV=production HOST=0.0.0.0 PORT=8080
RUN mkdir data && chown node:node data
COPY --from=build /app/node_modules ./node_modules
COPY --from=build /app/dist ./dist
COPY package.json LICENSE ./
COPY prisma/migrations ./prisma/migrations
COPY openapi ./openapi
USER node
VOLUME /app/data
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
  CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.PORT}/livez`).then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
# HOST is not loopback here, so the service refuses to start without TOKENS_FILE.
CMD ["node", "dist/main.js"]
