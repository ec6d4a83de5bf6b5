// Owns: shapes of boards, consoles and images. HTTP thread.
import Type from "typebox";
import { binary, closed, count, hexU64, nullable, pageOf, text, time } from "./common.schema.js";

/** A file name's characters: names are shown in paths, events and command lines. */
export const imageName = Type.String({
  pattern: "^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$",
  maxLength: 128,
  description: "Name of an image, chosen by whoever uploads it.",
  examples: ["hello.flat"],
});

export const sha256 = Type.String({
  pattern: "^[0-9a-f]{64}$",
  examples: ["e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"],
});

/** DESIGN 5: what fits below 4 GiB with tables and state. */
const MEMORY_MIB = { minimum: 2, maximum: 3584, default: 128 } as const;
const VCPUS = { minimum: 1, maximum: 512, default: 1 } as const;
export const BOARD_DEFAULTS = { memoryMiB: MEMORY_MIB.default, vcpus: VCPUS.default } as const;

const memoryMiB = Type.Integer({
  ...MEMORY_MIB,
  description: "RAM at 0x40000000, MiB.",
  examples: [128],
});
const vcpus = Type.Integer({ ...VCPUS, description: "vCPUs, ids from 0.", examples: [1] });
export const cmdline = Type.String({
  pattern: "^[^\\u0000]*$",
  maxLength: 2048,
  description: "/chosen/bootargs: the kernel's command line, or a test's arguments.",
  examples: ["console=ttyAMA0"],
});

const firmware = Type.String({
  ...imageName,
  description:
    "Image for the first bank of flash, entered at reset with the device tree where RAM begins. " +
    "It finds `image`, `initrd` and `cmdline` by fw_cfg.",
  examples: ["u-boot.bin"],
});
const disk = Type.String({
  ...imageName,
  description: "Image that virtio-blk shows; what the guest writes lasts as long as the VM.",
  examples: ["disk.img"],
});
export const gic = Type.Union([Type.Literal(2), Type.Literal(3), Type.Literal(5)], {
  description:
    "Version of the interrupt controller. 5: an IRS at 0x8010000, 256 SPIs, no ITS; a kernel of " +
    "its time knows it, as Linux 7.2.",
  examples: [3],
});
const its = Type.Boolean({ description: "The ITS of a GICv3.", examples: [false] });
const dirtyRingEntries = Type.Integer({
  minimum: 1,
  maximum: 65_536,
  description:
    "Entries of each vCPU's dirty ring, a power of two; without it KVM logs by bitmaps. A ring " +
    "is chosen before there are vCPUs.",
  examples: [4096], // tidy: entries
});
const rtc = Type.Boolean({ description: "A PL031 at 0x9010000.", examples: [true] });
const pci = Type.Boolean({
  description: "A PCIe host bridge, ECAM at 0x3f000000, with a pci-testdev on its bus.",
  examples: [false],
});
const rng = Type.Boolean({ description: "virtio-rng, seeded by the VM's seed.", examples: [true] });
const virtio = Type.Union([Type.Literal("modern"), Type.Literal("legacy")], {
  description: "Registers of the virtio-mmio transports: version 2, or version 1.",
  examples: ["modern"],
});
const boardConsole = Type.Union([Type.Literal("virtio"), Type.Literal("testdev")], {
  description:
    "A virtio-console beside the UART. virtio: its output is in the console too, and it is what " +
    "is typed to once its driver is there. testdev: `<code>q` sent to it ends the guest.",
  examples: ["virtio"],
});

/** `board` of a creation. */
export const BoardCreate = Type.Object(
  {
    image: Type.Optional(nullable(imageName)),
    initrd: Type.Optional(nullable(imageName)),
    firmware: Type.Optional(nullable(firmware)),
    disk: Type.Optional(nullable(disk)),
    cmdline: Type.Optional(cmdline),
    memoryMiB: Type.Optional(memoryMiB),
    vcpus: Type.Optional(vcpus),
    gic: Type.Optional(nullable(gic)),
    its: Type.Optional(its),
    dirtyRingEntries: Type.Optional(dirtyRingEntries),
    rtc: Type.Optional(rtc),
    pci: Type.Optional(pci),
    virtio: Type.Optional(virtio),
    rng: Type.Optional(rng),
    console: Type.Optional(nullable(boardConsole)),
  },
  {
    ...closed,
    $id: "BoardCreate",
    description: "The machine around the VM: then the host is its VMM, and runs its guest.",
    examples: [{ image: "hello.flat", memoryMiB: 128 }],
  },
);

export const ImageRef = Type.Object(
  { name: imageName, sha256, size: count("Bytes.", 584) },
  { ...closed, $id: "ImageRef", description: "An image as the VM was given it." },
);

/** `definition.board` of a VM. */
export const BoardDefinition = Type.Object(
  {
    image: nullable(ImageRef),
    initrd: nullable(ImageRef),
    cmdline,
    memoryMiB,
    vcpus,
    gic: Type.Optional(gic),
    its: Type.Optional(its),
    dirtyRingEntries: Type.Optional(dirtyRingEntries),
    rtc: Type.Optional(rtc),
    pci: Type.Optional(pci),
    virtio: Type.Optional(virtio),
    rng: Type.Optional(rng),
    console: Type.Optional(boardConsole),
    disk: Type.Optional(ImageRef),
    firmware: Type.Optional(ImageRef),
  },
  { ...closed, $id: "BoardDefinition" },
);

export const Board = Type.Object(
  {
    state: Type.String({
      description: "created, running, paused, shutdown or crashed.",
      examples: ["running"],
    }),
    reason: nullable(text("How it came to this state.", "The guest switched itself off.")),
    format: nullable(
      Type.String({
        description: "What the image is: flat, linux, elf; firmware if that starts it.",
        examples: ["flat"],
      }),
    ),
    entry: nullable(hexU64("Address of the first instruction.", "0x40080000")),
    dtb: nullable(hexU64("Address of the device tree.", "0x44000000")),
    initrd: nullable(
      Type.Object({ start: hexU64("", "0x48000000"), end: hexU64("", "0x48001000") }, closed),
    ),
    resets: count("Times that it was reset, or switched on again.", 0),
    console: Type.Object(
      {
        oldest: count("Oldest offset of output that is kept.", 0),
        end: count("Offset behind the newest byte.", 6),
        typed: count("Bytes typed that the guest has not taken.", 0),
      },
      closed,
    ),
    unassigned: Type.Object(
      {
        count: count("Accesses where no device is: loads gave zeros, stores went nowhere.", 0),
        last: nullable(hexU64("Address of the last one.", "0xa000000")),
      },
      closed,
    ),
  },
  { ...closed, $id: "Board", description: "The board of an active VM as it is now." },
);

export const ConsoleQuery = Type.Object(
  {
    offset: Type.Optional(
      count("First byte to read; counts from the VM's creation. The oldest kept one if absent.", 0),
    ),
    limit: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: 1 << 20,
        default: 1 << 20,
        description: "Bytes at most.",
        examples: [65_536],
      }),
    ),
  },
  closed,
);

export const ConsoleText = Type.String({
  description: "The bytes as the guest sent them.",
  examples: ["hello\n"],
});

export const ConsoleStream = Type.String({
  description:
    "Server-sent events: `console.output` {offset, next, text}, `board.state` {state, reason}, " +
    "`gap` {after, next}. The id is the next offset.",
  examples: ['id: 6\nevent: console.output\ndata: {"offset":0,"next":6,"text":"hello\\n"}\n\n'],
});

/** Bytes of one request; a guest takes them much slower. */
export const TYPED_BYTES_MAX = 65_536;

export const Typed = Type.Object(
  {
    text: Type.String({
      minLength: 1,
      maxLength: TYPED_BYTES_MAX,
      description: "Sent as UTF-8.",
      examples: ["root\n"],
    }),
  },
  { ...closed, $id: "Typed", description: "What to type.", examples: [{ text: "root\n" }] },
);

export const TypedBytes = binary("What to type, byte by byte.");

export const TypedAnswer = Type.Object(
  {
    accepted: count("Bytes that went in.", 5),
    typed: count("Bytes that the guest has not taken yet, these included.", 5),
  },
  { ...closed, $id: "TypedAnswer" },
);

export const ImageParams = Type.Object({ image: imageName }, closed);
export const ImageBytes = binary(
  "A flat binary, a Linux arm64 Image, an ELF, an initrd, a disk or a firmware.",
);

export const Image = Type.Object(
  {
    name: imageName,
    sha256,
    size: count("Bytes.", 584),
    version: Type.Integer({ minimum: 1, description: "Counts replacements.", examples: [1] }),
    createdAt: time(""),
    updatedAt: time(""),
    links: Type.Record(Type.String(), Type.String(), {
      description: "Paths of the image.",
      examples: [{ self: "/v1/images/hello.flat" }],
    }),
  },
  { ...closed, $id: "Image", description: "Bytes that boards can load." },
);
export const ImagePage = pageOf("ImagePage", Image);
