// Owns: archives in the "newc" form of cpio, as the kernel unpacks them into its first file system.
// Tool and test process.

export type Entry =
  | { readonly path: string; readonly kind: "folder" }
  | {
      readonly path: string;
      readonly kind: "file";
      readonly bytes: Uint8Array;
      readonly mode: number;
    }
  | { readonly path: string; readonly kind: "link"; readonly target: string }
  | {
      readonly path: string;
      readonly kind: "device";
      readonly major: number;
      readonly minor: number;
    };

const MAGIC = "070701";
const ALIGNMENT = 4;
/** The kernel's buffers and other tools want whole blocks. */
const BLOCK = 512;
const S_IFDIR = 0o040000;
const S_IFREG = 0o100000;
const S_IFLNK = 0o120000;
const S_IFCHR = 0o020000;
const TRAILER = "TRAILER!!!";

function modeOf(entry: Entry): number {
  switch (entry.kind) {
    case "folder":
      return S_IFDIR | 0o755;
    case "file":
      return S_IFREG | entry.mode;
    case "link":
      return S_IFLNK | 0o777;
    case "device":
      return S_IFCHR | 0o600;
  }
}

function contentOf(entry: Entry): Uint8Array {
  if (entry.kind === "file") return entry.bytes;
  return entry.kind === "link" ? new TextEncoder().encode(entry.target) : new Uint8Array(0);
}

function padded(bytes: Uint8Array, to = ALIGNMENT): Uint8Array {
  const whole = new Uint8Array(Math.ceil(bytes.length / to) * to);
  whole.set(bytes);
  return whole;
}

/** A header with its name, and the content. Owner, times and inode numbers say nothing. */
function member(
  path: string,
  content: Uint8Array,
  { inode = 0, mode = 0, links = 1, major = 0, minor = 0 } = {},
): readonly Uint8Array[] {
  const name = new TextEncoder().encode(`${path}\0`);
  const fields = [
    ...[inode, mode, 0, 0, links, 0, content.length],
    ...[0, 0, major, minor, name.length, 0],
  ];
  const header = MAGIC + fields.map((field) => field.toString(16).padStart(8, "0")).join("");
  const head = new TextEncoder().encode(header);
  const both = new Uint8Array(head.length + name.length);
  both.set(head);
  both.set(name, head.length);
  return [padded(both), padded(content)];
}

/** The same entries give the same bytes. Folders come before what is in them. */
export function cpio(entries: readonly Entry[]): Uint8Array {
  const parts = entries.flatMap((entry, at) => {
    const links = entry.kind === "folder" ? 2 : 1;
    const device = entry.kind === "device" ? { major: entry.major, minor: entry.minor } : {};
    const fields = { inode: at + 1, mode: modeOf(entry), links, ...device };
    return member(entry.path, contentOf(entry), fields);
  });
  const all = [...parts, ...member(TRAILER, new Uint8Array(0))];
  const bytes = new Uint8Array(all.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of all) {
    bytes.set(part, at);
    at += part.length;
  }
  return padded(bytes, BLOCK);
}
