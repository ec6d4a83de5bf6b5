// Owns: `npm run dev`: compile on change, restart on new output, readable logs. Own process.
import { spawn } from "node:child_process";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "./build.mjs";
import { watchThread } from "./bundle.mjs";

const cwd = join(dirname(fileURLToPath(import.meta.url)), "..");
const require = createRequire(import.meta.url);
build();
const compiler = spawn(
  process.execPath,
  [
    require.resolve("typescript/bin/tsc"),
    "-p",
    "tsconfig.json",
    "--watch",
    "--preserveWatchOutput",
  ],
  { cwd, stdio: ["ignore", "inherit", "inherit"] },
);
const endWatch = await watchThread(cwd);
const pretty = spawn(process.execPath, [require.resolve("pino-pretty/bin.js")], {
  cwd,
  stdio: ["pipe", "inherit", "inherit"],
});
const service = spawn(process.execPath, ["--watch", "dist/main.js"], {
  cwd,
  stdio: ["ignore", "pipe", "inherit"],
});
service.stdout.pipe(pretty.stdin);

const children = [service, compiler, pretty];
const stop = () => {
  void endWatch();
  for (const child of children) child.kill("SIGTERM");
};
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, stop);
for (const child of children) child.once("exit", stop);
