// Owns: a scenario as a sequence diagram: a lane for each who, a row for each event, downwards in
// time; bars where the device's line is high and where VFIO has it masked. CLI process.
import { LANES, type Lane, type SceneEvent } from "./events.js";

const WIDTH = 900;
const LANE_X: Readonly<Record<Lane, number>> = { device: 110, vfio: 330, kvm: 560, guest: 790 };
const NAMES: Readonly<Record<Lane, string>> = {
  device: "device",
  vfio: "VFIO on the host",
  kvm: "KVM",
  guest: "guest",
};
const HEAD = { title: 26, variant: 47, outcome: 67, names: 84, height: 26 } as const;
const FIRST_ROW = 142;
const ROW = 25;
/** The bar beside a lane's line. */
const BAR = 8;
const NAME_WIDTH = 150;
const GAP = 10;
/** More than a character is wide. */
const CHARACTER = 7.5;

/** All but what XML takes as a character, however it is written. @source XML 1.0, production 2 */
const NO_CHARACTERS = /[^\t\n\r\u{20}-\u{d7ff}\u{e000}-\u{fffd}\u{10000}-\u{10ffff}]/gu;

/** Of text and of an attribute. */
export function escapeXml(text: string): string {
  const entities: Readonly<Record<string, string>> = {
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
    '"': "&quot;",
    "'": "&#39;",
  };
  const legal = text.replace(NO_CHARACTERS, "\ufffd");
  return legal.replace(/[&<>"']/g, (sign) => entities[sign] ?? sign);
}

/** Colours of paper and of the night. */
const LIGHT = {
  ...{ paper: "#ffffff", ink: "#1f2328", faint: "#8c959f", box: "#f0f3f6" },
  ...{ high: "#cf222e", masked: "#bf8700", good: "#1a7f37", bad: "#cf222e" },
};
const DARK: typeof LIGHT = {
  ...{ paper: "#0d1117", ink: "#e6edf3", faint: "#6e7681", box: "#21262d" },
  ...{ high: "#ff7b72", masked: "#e3b341", good: "#3fb950", bad: "#ff7b72" },
};

function rules(colours: typeof LIGHT): string {
  const { paper, ink, faint, box, high, masked, good, bad } = colours;
  return [
    `.paper{fill:${paper}}.ink,text{fill:${ink}}`,
    `text.on{stroke:${paper}}.faint{fill:${faint}}`,
    `.lane{stroke:${faint}}.arrow,.rule{stroke:${ink}}.head{fill:${ink}}`,
    `.box{fill:${box};stroke:${faint}}`,
    `.high{fill:${high}}.masked{fill:${masked}}`,
    `text.good{fill:${good}}text.bad{fill:${bad}}`,
  ].join("");
}

const STYLE = [
  "<style>",
  "text{font:13px system-ui,'Segoe UI',Helvetica,Arial,sans-serif}",
  "text.title{font-weight:600;font-size:15px}text.on{stroke-width:4px;paint-order:stroke}",
  ".lane{stroke-dasharray:2 4}.rule{stroke-dasharray:6 4}",
  rules(LIGHT),
  `@media (prefers-color-scheme:dark){${rules(DARK)}}`,
  "</style>",
].join("");

type Anchor = "start" | "middle" | "end";

function text(x: number, y: number, anchor: Anchor, says: string, classes: string): string {
  const place = `x="${x}" y="${y}" text-anchor="${anchor}" class="${classes}"`;
  return `<text ${place}>${escapeXml(says)}</text>`;
}

const rect = (x: number, y: number, width: number, height: number, classes: string) =>
  `<rect x="${x}" y="${y}" width="${width}" height="${height}" class="${classes}"/>`;

function line(x1: number, x2: number, y: number, classes: string, more = ""): string {
  return `<line x1="${x1}" y1="${y}" x2="${x2}" y2="${y}" class="${classes}"${more}/>`;
}

const ARROW = ' marker-end="url(#head)"';

/** One row: an arrow, a note at a lane, or a line across them all. */
function drawn(event: SceneEvent, y: number): string {
  const { from, to, text: says, detail } = event;
  const hint = detail === "" ? "" : `<title>${escapeXml(detail)}</title>`;
  const group = (...parts: readonly string[]) => `<g>${hint}${parts.join("")}</g>`;
  if (from === null || to === null) {
    const across = line(GAP, WIDTH - GAP, y, "rule");
    const width = CHARACTER * says.length;
    const paper = rect((WIDTH - width) / 2, y - 9, width, 18, "paper");
    return group(across, paper, text(WIDTH / 2, y + 4, "middle", says, "on"));
  }
  if (from === to) {
    const isLast = from === "guest";
    const x = LANE_X[from] + (isLast ? -GAP : GAP);
    const dot = `<circle cx="${LANE_X[from]}" cy="${y}" r="3.5" class="ink"/>`;
    return group(dot, text(x, y + 4, isLast ? "end" : "start", says, "on"));
  }
  const [a, b] = [LANE_X[from], LANE_X[to]];
  const inwards = a < b ? BAR / 2 : -BAR / 2;
  const arrow = line(a, b - inwards, y + 4, "arrow", ARROW);
  return group(arrow, text((a + b) / 2, y - 1, "middle", says, "on"));
}

/** From where to where something was so. @param of undefined: the event says nothing of it */
function spans(
  events: readonly SceneEvent[],
  of: (event: SceneEvent) => boolean | undefined,
  end: number,
): readonly (readonly [from: number, to: number])[] {
  const found: [number, number][] = [];
  let since: number | null = null;
  for (const [at, event] of events.entries()) {
    const is = of(event);
    if (is === undefined) continue;
    const y = rowY(at);
    if (is) since ??= y;
    else if (since !== null) {
      found.push([since, y]);
      since = null;
    }
  }
  if (since !== null) found.push([since, end]);
  return found;
}

const rowY = (at: number): number => FIRST_ROW + ROW * at;

function lanes(end: number): string {
  const one = (lane: Lane) => {
    const x = LANE_X[lane];
    const stroke = `<line x1="${x}" y1="${HEAD.names + HEAD.height}" x2="${x}" y2="${end}"`;
    return [
      `${stroke} class="lane"/>`,
      rect(x - NAME_WIDTH / 2, HEAD.names, NAME_WIDTH, HEAD.height, "box"),
      text(x, HEAD.names + 17, "middle", NAMES[lane], ""),
    ].join("");
  };
  return LANES.map(one).join("\n");
}

function bars(events: readonly SceneEvent[], end: number): string {
  const draw = (lane: Lane, classes: string, of: (event: SceneEvent) => boolean | undefined) =>
    spans(events, of, end).map(([from, to]) =>
      rect(LANE_X[lane] - BAR / 2, from, BAR, to - from, classes),
    );
  return [
    ...draw("device", "high", ({ change }) => change.isHigh),
    ...draw("vfio", "masked", ({ change }) => change.isMasked),
  ].join("\n");
}

function legend(y: number): string {
  return [
    rect(LANE_X.device - BAR / 2, y - 9, BAR, 12, "high"), // tidy: pixels
    text(LANE_X.device + GAP, y, "start", "its line is high", ""),
    rect(LANE_X.vfio - BAR / 2, y - 9, BAR, 12, "masked"), // tidy: pixels
    text(LANE_X.vfio + GAP, y, "start", "its interrupt is masked", ""),
  ].join("");
}

/** A run, and what is to be said of it. */
export interface Picture {
  readonly title: string;
  readonly subtitle: string;
  readonly outcome: string;
  readonly mood: "good" | "bad" | "";
  readonly events: readonly SceneEvent[];
}

/** @returns an SVG document; the same run gives the same bytes */
export function diagram(picture: Picture): string {
  const { title, subtitle, outcome, mood } = picture;
  const events = picture.events.filter(({ isSetUp }) => !isSetUp);
  const end = rowY(events.length);
  const height = end + 2 * ROW;
  const size = `width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}"`;
  const head =
    '<marker id="head" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" ' +
    'orient="auto"><path d="M0 0L8 4L0 8z" class="head"/></marker>';
  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" ${size} role="img" aria-labelledby="t d">`,
    `<title id="t">${escapeXml(`${title}: ${subtitle}`)}</title>`,
    `<desc id="d">${escapeXml(outcome)}</desc>`,
    `${STYLE}<defs>${head}</defs>`,
    rect(0, 0, WIDTH, height, "paper"),
    text(WIDTH / 2, HEAD.title, "middle", title, "title"),
    text(WIDTH / 2, HEAD.variant, "middle", subtitle, ""),
    text(WIDTH / 2, HEAD.outcome, "middle", outcome, mood),
    lanes(end),
    bars(events, end),
    ...events.map((event, at) => drawn(event, rowY(at))),
    legend(end + ROW),
    "</svg>",
  ];
  return `${parts.join("\n")}\n`;
}
