// Owns: house rules on code, read from the syntax tree, so words in comments and texts don't count.
// Test process. A rule takes files and answers a sentence per violation, beginning with its place.
import ts from "typescript";
import type { SourceFile } from "./tree.js";

export type Rule = (files: readonly SourceFile[]) => string[];

/** Says on the line, or on the line above, that a number is no page, and what it is. */
const NOT_A_PAGE = /\/\/ tidy: \S+ \S+/;
const NO_PAGE_LITERALS = /^src\/(machine|kvm|vmm|runtime|migration|service|api)\//;
const PAGE_VALUES = new Set([4096n, 0xfffn]);
const SHIFTS = new Set([
  ts.SyntaxKind.LessThanLessThanToken,
  ts.SyntaxKind.GreaterThanGreaterThanToken,
  ts.SyntaxKind.GreaterThanGreaterThanGreaterThanToken,
  ts.SyntaxKind.LessThanLessThanEqualsToken,
  ts.SyntaxKind.GreaterThanGreaterThanEqualsToken,
  ts.SyntaxKind.GreaterThanGreaterThanGreaterThanEqualsToken,
  ts.SyntaxKind.AsteriskAsteriskToken,
]);

const TIME_AND_CHANCE = /^src\/base\/(clock|prng)\.ts$/;
const TIMERS = new Set(["setTimeout", "setInterval", "setImmediate", "performance"]);
const CLOCK_CALLS = new Set(["Date.now", "Math.random", "process.hrtime", "process.nextTick"]);

const trees = new Map<string, ts.SourceFile>();

function parse({ path, text }: SourceFile): ts.SourceFile {
  const key = `${path}\0${text}`;
  const known = trees.get(key);
  if (known !== undefined) return known;
  const tree = ts.createSourceFile(path, text, ts.ScriptTarget.ES2023, true);
  trees.set(key, tree);
  return tree;
}

function visit(node: ts.Node, look: (node: ts.Node) => void): void {
  look(node);
  node.forEachChild((child) => visit(child, look));
}

/** Makes a rule from a look at each node; `report` adds the place. */
function treeRule(
  applies: (path: string) => boolean,
  look: (node: ts.Node, report: (sentence: string) => void, file: SourceFile) => void,
): Rule {
  return (files) => {
    const found: string[] = [];
    for (const file of files.filter(({ path }) => applies(path))) {
      const tree = parse(file);
      visit(tree, (node) => {
        look(
          node,
          (sentence) => {
            const { line } = tree.getLineAndCharacterOfPosition(node.getStart(tree));
            found.push(`${file.path}:${line + 1}: ${sentence}`);
          },
          file,
        );
      });
    }
    return found;
  };
}

function literalValue(node: ts.Node): bigint | undefined {
  if (ts.isBigIntLiteral(node)) return BigInt(node.text.replace(/n$/, ""));
  if (!ts.isNumericLiteral(node)) return undefined;
  const value = Number(node.text);
  return Number.isSafeInteger(value) ? BigInt(value) : undefined;
}

function isExcused(node: ts.Node, file: SourceFile): boolean {
  const lines = file.text.split("\n");
  const { line } = parse(file).getLineAndCharacterOfPosition(node.getStart());
  return [line - 1, line].some((at) => NOT_A_PAGE.test(lines[at] ?? ""));
}

/**
 * DESIGN 6: only base/page.ts knows 12 and 4096. 4096, 0x1000 and 0xfff in any spelling, and 12 as
 * a shift or as an exponent, are refused unless `// tidy: <what it is instead>` stands beside them.
 * Tables and schemas are data (a schema's examples are the document's) and stay free.
 */
export const noPageLiterals = treeRule(
  (path) => NO_PAGE_LITERALS.test(path) && !/\.(table|schema)\.ts$/.test(path),
  (node, report, file) => {
    const value = literalValue(node);
    if (value === undefined) return;
    const shift =
      value === 12n &&
      ts.isBinaryExpression(node.parent) &&
      node.parent.right === node &&
      SHIFTS.has(node.parent.operatorToken.kind as never);
    if (!shift && !PAGE_VALUES.has(value)) return;
    if (!isExcused(node, file)) report(`${node.getText()} looks like a page; use base/page.ts`);
  },
);

export const environmentOnlyInConfig = treeRule(
  (path) => path.startsWith("src/") && path !== "src/config.ts",
  (node, report) => {
    if (ts.isPropertyAccessExpression(node) && /^process\.env$/.test(node.getText())) {
      report("process.env belongs to src/config.ts");
    }
    if (ts.isImportSpecifier(node) && (node.propertyName ?? node.name).text === "env") {
      report("the environment belongs to src/config.ts");
    }
  },
);

/** An identifier that stands for itself: not a property, a member's name or a type. */
function isFreeName(node: ts.Identifier): boolean {
  const { parent } = node;
  if (ts.isPropertyAccessExpression(parent)) return parent.expression === node;
  if (ts.isPropertyAssignment(parent)) return parent.initializer === node;
  return (
    !ts.isMethodDeclaration(parent) &&
    !ts.isMethodSignature(parent) &&
    !ts.isPropertySignature(parent) &&
    !ts.isTypeNode(parent)
  );
}

export const timeOnlyFromClock = treeRule(
  (path) => path.startsWith("src/") && !TIME_AND_CHANCE.test(path),
  (node, report) => {
    const text = ts.isPropertyAccessExpression(node) ? node.getText() : "";
    if (CLOCK_CALLS.has(text)) report(`${text}: take a Clock or a Prng from base`);
    if (ts.isIdentifier(node) && TIMERS.has(node.text) && isFreeName(node)) {
      report(`${node.text}: take a Clock from base`);
    }
    if (ts.isNewExpression(node) && node.getText().replace(/\(\)$/, "") === "new Date") {
      report("new Date() without a value reads the wall clock: take a Clock from base");
    }
    if (ts.isStringLiteral(node) && /^(node:)?(timers(\/promises)?|perf_hooks)$/.test(node.text)) {
      report(`${node.text}: take a Clock from base`);
    }
  },
);

export const noConsole = treeRule(
  (path) => path.startsWith("src/"),
  (node, report) => {
    if (ts.isIdentifier(node) && node.text === "console" && isFreeName(node)) {
      report("console: use the Log that app.ts gives");
    }
  },
);

/** House style (c) rule 4: a reader finds every thread by its file's name. */
export const threadsBeginInWorkerFiles = treeRule(
  (path) => path.startsWith("src/"),
  (node, report, { text }) => {
    if (!ts.isNewExpression(node) || node.expression.getText() !== "Worker") return;
    if (!/\.worker\.js"/.test(text)) report("a Worker's file ends in .worker.js");
  },
);

/** Names of classes in the VM's rooms that save themselves: `implements Stateful`, or save(). */
export function statefulClasses(files: readonly SourceFile[]): { name: string; path: string }[] {
  const found: { name: string; path: string }[] = [];
  for (const file of files.filter(({ path }) => /^src\/(machine|kvm|vmm)\//.test(path))) {
    visit(parse(file), (node) => {
      if (!ts.isClassDeclaration(node) || node.name === undefined) return;
      const says = node.heritageClauses?.some((clause) => /\bStateful\b/.test(clause.getText()));
      const saves = node.members.some(
        (member) => ts.isMethodDeclaration(member) && member.name.getText() === "save",
      );
      if (says === true || saves) found.push({ name: node.name.text, path: file.path });
    });
  }
  return found;
}

/** DESIGN 13: every stateful part has a row in the round-trip table, by its class's name. */
export function roundTripsMissing(files: readonly SourceFile[], table: string): string[] {
  const named = new Set<string>();
  visit(parse({ path: "state-roundtrip.table.ts", text: table }), (node) => {
    if (ts.isIdentifier(node) || ts.isStringLiteral(node)) named.add(node.text);
  });
  return statefulClasses(files)
    .filter(({ name }) => !named.has(name))
    .map(({ name, path }) => `${path}: ${name} saves itself but has no round-trip row`);
}
