// Owns: every problem that the HTTP face can answer, and the status of every errno (RFC 9457).
// Data only. HTTP thread. Clients match on the code, never on the title or the detail.
import type { ErrnoName } from "../base/errno.table.js";

export interface ProblemRow {
  /** What a system call would have said, where the refusal stands for one. */
  readonly errno?: ErrnoName;
  readonly status: number;
  /** Short, the same for every occurrence. */
  readonly title: string;
  /** The page under /problems/{code}: when it happens and what the caller can do. */
  readonly page: string;
  /** Value of Retry-After in seconds, where waiting helps. */
  readonly retryAfter?: number;
}

/**
 * HTTP status of a refused ioctl by its errno; a route may name others for the resource of its
 * path. @source DESIGN decision 9
 */
export const ERRNO_STATUS: Readonly<Record<ErrnoName, number>> = {
  EPERM: 409,
  ENOENT: 422,
  EINTR: 409,
  EIO: 410,
  ENXIO: 409,
  E2BIG: 422,
  ENOEXEC: 409,
  EBADF: 422,
  EAGAIN: 409,
  ENOMEM: 507,
  EACCES: 403,
  EFAULT: 422,
  EBUSY: 409,
  EEXIST: 409,
  ENODEV: 409,
  EINVAL: 422,
  ENFILE: 503,
  EMFILE: 503,
  ENOTTY: 405,
  ENOSPC: 507,
  ENOSYS: 422,
  EOPNOTSUPP: 422,
  EHWPOISON: 409,
};

/** What KVM calls an errno, for titles. */
export const ERRNO_TITLE: Readonly<Record<ErrnoName, string>> = {
  EPERM: "Operation not permitted in this state",
  ENOENT: "No such entry",
  EINTR: "Interrupted",
  EIO: "VM is dead",
  ENXIO: "A prerequisite is missing",
  E2BIG: "Argument too big",
  ENOEXEC: "vCPU is not initialised",
  EBADF: "Bad descriptor",
  EAGAIN: "Not ready",
  ENOMEM: "Out of memory",
  EACCES: "Permission denied",
  EFAULT: "Bad address",
  EBUSY: "Busy",
  EEXIST: "Already exists",
  ENODEV: "No such device",
  EINVAL: "Invalid argument",
  ENFILE: "Too many open files in the host",
  EMFILE: "Too many open files",
  ENOTTY: "Not an operation of this object",
  ENOSPC: "No space left",
  ENOSYS: "Not implemented by the host",
  EOPNOTSUPP: "Mode not supported",
  EHWPOISON: "Poisoned memory",
};

const row = (status: number, title: string, page: string, retryAfter?: number): ProblemRow =>
  retryAfter === undefined ? { status, title, page } : { status, title, page, retryAfter };

export const PROBLEMS = {
  // What KVM refuses.
  "kvm-errno": row(
    422,
    "KVM refused the request",
    "The ioctl behind the request failed as it would on Linux. `errno`, `errnoValue` and `ioctl` " +
      "say how; the status follows from the errno. Nothing was changed.",
  ),
  "partly-written": row(
    422,
    "KVM refused one of several writes",
    "The ioctl failed for the register at `index`, as it would on Linux. Those in `written` were " +
      "written before and stay so; those behind it were not tried.",
  ),
  "not-implemented": row(
    501,
    "Not implemented yet",
    "KVM has this ioctl, this host does not. The capability that announces it reads 0. " +
      "GET /v1/host/ioctls lists the state of every ioctl.",
  ),
  "no-such-operation": row(
    405,
    "KVM has no such operation",
    "Linux offers no ioctl for this: a vCPU, once created, stays until its VM is deleted.",
  ),

  // The request itself.
  validation: row(
    400,
    "The request does not have the documented shape",
    "`errors` lists each place as a JSON Pointer into the body, the query or the path, with what " +
      "is wrong there. Unknown fields are refused, never dropped.",
  ),
  "malformed-json": row(
    400,
    "The body is not JSON",
    "The body says application/json but can't be parsed, or holds a key that would poison a " +
      "prototype.",
  ),
  "body-missing": row(
    400,
    "The body is missing",
    "The operation needs a body; the document under /openapi.json shows its shape.",
  ),
  "body-cut": row(
    400,
    "The body ended early",
    "Fewer or more bytes arrived than Content-Length promised, or the connection was cut.",
  ),
  "bad-request": row(400, "The request can't be read", "The HTTP message is malformed."),
  "bad-url": row(400, "The URL can't be decoded", "A percent escape in the path is malformed."),
  "cursor-invalid": row(
    400,
    "The cursor is not one of ours",
    "A cursor is valid only as it came in `nextCursor` or in the Link header, for the same list.",
  ),
  "bitmap-length": row(
    400,
    "The bitmap has the wrong length",
    "A bitmap for numPages pages has exactly ceil(numPages / 64) * 8 bytes, little-endian.",
  ),
  "idempotency-key": row(
    400,
    "The Idempotency-Key is malformed",
    "A key is 1 to 255 visible ASCII characters, best a UUID.",
  ),
  unauthorized: row(
    401,
    "A bearer token is needed",
    "Send `Authorization: Bearer <token>` with a token of this host's token file.",
  ),
  "insufficient-scope": row(
    403,
    "The token's scopes do not allow this",
    "The token is known, but lacks the scope named in `scope`.",
  ),
  "route-not-found": row(
    404,
    "There is nothing at this path",
    "No operation of the API has this path. /docs and /openapi.json list all of them.",
  ),
  "method-not-allowed": row(
    405,
    "The method is not allowed here",
    "The path exists, the method does not; the Allow header lists those that do.",
  ),
  "not-acceptable": row(
    406,
    "No acceptable representation",
    "The Accept header admits none of the operation's media types, or the JSON form of this " +
      "answer would be too large: ask for application/octet-stream.",
  ),
  "request-timeout": row(408, "The request took too long to arrive", "Send it again."),
  "precondition-failed": row(
    412,
    "The resource has changed",
    "If-Match names a version that is not the present one. Read the resource again.",
  ),
  "body-too-large": row(
    413,
    "The body is too large",
    "The operation's limit is in `limitBytes`. Send memory and bitmaps in pieces.",
  ),
  "uri-too-long": row(414, "The URL is too long", "A path segment exceeds 256 characters."),
  "unsupported-media-type": row(
    415,
    "The media type is not supported",
    "`accepts` lists the media types of the operation's body. Content-Encoding is not supported.",
  ),
  "range-not-satisfiable": row(
    416,
    "The range can't be served",
    "One range of bytes inside the object is served per request; Content-Range has the size.",
  ),
  "range-required": row(
    422,
    "A range is needed",
    "The object is larger than one answer may be: name a part of it in the Range header.",
  ),
  "headers-too-large": row(431, "The request headers are too large", "Send fewer or shorter."),
  "rate-limited": row(429, "Too many requests", "Wait as long as Retry-After says.", 1),

  // Resources named by the path.
  "image-not-found": row(404, "No such image", "No image of this host has the name in the path."),
  "image-unknown": row(422, "Unknown image in the body", "Upload it first: PUT /v1/images/{image}."),
  "image-in-use": row(
    409,
    "A VM refers to the image",
    "It may be started again, and then needs the same bytes. Delete the VM, or use another name.",
  ),
  "image-format": row(
    422,
    "Not an image that a board can load",
    "A board takes a flat binary that begins with its first instruction, a Linux arm64 Image, or " +
      "an AArch64 program in ELF.",
  ),
  "image-does-not-fit": row(
    422,
    "The image does not fit the board's memory",
    "Image, initrd and device tree lie as QEMU lays them out; give the board more `memoryMiB`.",
  ),
  "image-lost": row(
    409,
    "The image's file is missing or was changed",
    "Somebody touched the data directory. Upload the image again.",
  ),
  "image-limit": row(507, "There are as many images as there may be", "Delete some first."),
  "experiment-not-found": row(404, "No such experiment", "It never was, or it was deleted."),
  "experiment-limit": row(
    429,
    "As many experiments wait as there may be",
    "They run one at a time. Let one end, cancel or delete one.",
    10,
  ),
  "experiment-no-results": row(
    409,
    "The experiment ended without results",
    "The service ended while it waited or ran. Ask for the same experiment again.",
  ),
  "snapshot-not-found": row(404, "No such snapshot", "It never was, or it was deleted."),
  "snapshot-unknown": row(
    422,
    "Unknown snapshot in the body",
    "The VM has no snapshot of that id, or none that is complete: GET /v1/snapshots?vm=… has them.",
  ),
  "snapshot-in-progress": row(
    409,
    "A snapshot of the VM is being taken",
    "One at a time: `snapshot` names it. Let it end, or cancel it.",
    1,
  ),
  "snapshot-parent": row(
    409,
    "No differential can follow that snapshot",
    "A differential follows the newest snapshot of a chain, while the VM has run on since without " +
      "a restart and its stores were tracked. Take a full one.",
  ),
  "snapshot-in-use": row(
    409,
    "Another snapshot needs this one",
    "A differential is nothing without its parent: delete those in `children` first.",
  ),
  "snapshot-incomplete": row(
    409,
    "The snapshot is not complete",
    "It is being taken, or it failed: only a complete one has content and can be restored.",
  ),
  "snapshot-broken": row(
    409,
    "The snapshot's file is not as it was written",
    "A checksum is wrong, or the file is missing, cut off or another one's. Nothing was changed.",
  ),
  "snapshot-file": row(
    503,
    "The snapshot's file can't be read or written",
    "The detail has the system's word. Nothing was changed; look at the data directory.",
  ),
  "snapshot-cancelled": row(409, "The snapshot was cancelled", "Somebody asked for that."),
  "snapshot-limit": row(507, "There are as many snapshots as there may be", "Delete some first."),
  "snapshot-chains": row(
    409,
    "The VM tracks stores for as many chains as it may",
    "Delete the newest snapshot of a chain that needs no more differentials, or leave `track` out.",
  ),
  "disk-full": row(
    507,
    "There is no room for the snapshot",
    "The file is removed, its dirty pages are told again, and the VM goes on. Delete some snapshots.",
  ),
  "autosnapshot-not-found": row(
    404,
    "The VM is not snapshotted by itself",
    "PUT /v1/vms/{vm}/autosnapshot says how often.",
  ),
  "owned-by-board": row(
    409,
    "That part of the VM is its board's",
    "On a VM with a board the host is the VMM: it runs the vCPUs and owns their registers and the " +
      "RAM's slot. Use the board's actions, or create the VM without `board`.",
  ),
  "dirty-log-owned": row(
    409,
    "Somebody else owns the VM's dirty log",
    "KVM's log has one owner. While the host tracks dirty pages, for a migration or to measure a " +
      "rate, GET, CLEAR and rings are refused: `consumers` and `links` say for whom, and " +
      "/v1/vms/{vm}/dirty-pages tells of pages without taking any. While slots of the client log, " +
      "the host can't track: clear KVM_MEM_LOG_DIRTY_PAGES first.",
  ),
  "tracking-unavailable": row(
    409,
    "The VM's dirty pages can't be tracked that way",
    "`detail` says what is in the way; /v1/vms/{vm}/dirty-tracking/consumers lists every method.",
  ),
  "consumer-not-found": row(
    422,
    "Nobody tracks dirty pages by that name",
    "List the consumers at /v1/vms/{vm}/dirty-tracking/consumers.",
  ),
  "dirty-rate-running": row(
    409,
    "The VM's dirty rate is being measured",
    "One measurement at a time: wait for the other to end, then read its result.",
    1,
  ),
  "dirty-rate-not-found": row(
    404,
    "The VM's dirty rate was never measured",
    "Not in this life of the service: POST to the same path.",
  ),
  "no-board": row(409, "The VM has no board", "Create it with `board`."),
  "owned-by-debugger": row(
    409,
    "A debugger is attached to the VM",
    "It says when vCPUs run: RUN, `:start` and `:resume` wait until it detaches. DELETE " +
      "/v1/vms/{vm}/gdb sends it away.",
  ),
  "gdb-off": row(
    403,
    "This host has no debugging",
    "A debugger reads and changes all of a guest, and its socket asks for no token. Start the " +
      "service with GDB=on in its environment to allow it.",
  ),
  "gdb-not-found": row(404, "No GDB stub", "The VM has none open: POST /v1/vms/{vm}/gdb."),
  "gdb-open": row(409, "The VM has a GDB stub", "GET it to see where it listens, or DELETE it."),
  "gdb-listen-failed": row(
    409,
    "The GDB stub can't listen there",
    "The port is taken, or the path of the data directory is too long for a Unix socket.",
  ),
  "qmp-off": row(
    403,
    "This host has no QMP",
    "A client of QMP stops and moves a VM, and its socket asks for no token. Start the service with " +
      "QMP=on in its environment to allow it.",
  ),
  "qmp-not-found": row(404, "No QMP socket", "The VM has none open: POST /v1/vms/{vm}/qmp."),
  "qmp-open": row(409, "The VM has a QMP socket", "GET it to see where it listens, or DELETE it."),
  "qmp-listen-failed": row(
    409,
    "The QMP socket can't listen there",
    "The port is taken, or the path of the data directory is too long for a Unix socket.",
  ),
  "board-state": row(
    409,
    "The board can't do that in its state",
    "`boardState` says which; GET /v1/vms/{vm}/board tells why. `:start` switches a board on that " +
      "is off.",
  ),
  "console-lost": row(
    410,
    "That output is not kept any more",
    "The newest mebibyte is kept; read on from `oldest`.",
  ),
  "console-full": row(
    409,
    "The guest has not taken what was typed before",
    "At most 64 KiB wait for it; type the rest later.",
    1,
  ),
  "vm-not-found": row(404, "No such VM", "No VM of this host has the id in the path."),
  "vcpu-not-found": row(404, "No such vCPU", "The VM has no vCPU with the id in the path."),
  "device-not-found": row(
    404,
    "No such device",
    "No device of the VM has the number in the path, or it was closed.",
  ),
  "device-stays": row(405, "KVM keeps the device", "It goes away with its VM, not before."),
  "vgic-not-found": row(
    404,
    "The VM has no interrupt controller in the kernel",
    "Create one: POST to the VM's devices, or PUT its irqchip.",
  ),
  "vfio-file-not-found": row(404, "No such VFIO file", "None of the VM's has this descriptor."),
  "host-cpu-not-found": row(404, "No such host CPU", "The VM's slice has fewer host CPUs."),
  "capability-not-found": row(
    404,
    "No such capability name",
    "A capability is named KVM_CAP_… as in linux/kvm.h, or by its decimal number.",
  ),
  "memslot-not-found": row(404, "No such memslot", "The VM has no memslot with this number."),
  "memory-object-not-found": row(404, "No such memory object", "The VM has none with this id."),
  "guest-memfd-not-found": row(404, "No such guest_memfd", "The VM has none with this id."),
  "run-not-found": row(404, "No such run", "The vCPU never had a run with this id."),
  "harvest-not-found": row(
    404,
    "No such harvest",
    "The harvest was never issued, or its bytes are gone since it was acknowledged.",
  ),
  "eventfd-not-found": row(404, "No such eventfd", "No eventfd of this host has this id."),
  "ioeventfd-not-found": row(404, "No such ioeventfd", "The VM has none with this id."),
  "irqfd-not-found": row(404, "No such irqfd", "The VM has none with this id."),
  "problem-not-found": row(404, "No such problem code", "GET /problems lists all of them."),

  // The state of things.
  "vm-not-active": row(
    409,
    "The VM is not active",
    "Only an active VM has a thread, memory and KVM objects. POST /v1/vms/{vm}:start builds a " +
      "stopped, lost or failed VM anew from its definition.",
  ),
  "vm-replaying": row(
    409,
    "The VM replays an input log",
    "Until the replay has finished no other input may enter the VM.",
  ),
  "vm-gone": row(410, "The VM ended", "Its thread ended before the request was done."),
  "fault-not-found": row(404, "No such fault", "The VM has none with this id, armed or spent."),
  "fault-limit": row(409, "Too many faults are armed", "Take some back first."),
  "setting-fixed": row(
    409,
    "The setting can't change now",
    "Some settings of dirty tracking are fixed when the VM is created, some once it has a vCPU. " +
      "`setting` names it; GET /v1/dirty-settings says of each until when it may change.",
  ),
  "uuid-taken": row(409, "The UUID is taken", "Another VM of this host has this UUID."),
  "vcpu-running": row(
    409,
    "The vCPU is running",
    "A vCPU has one run at a time. `runId` names it; DELETE it to kick the vCPU.",
  ),
  "run-gone": row(410, "The run is forgotten", "Only the last runs of a vCPU are kept."),
  "destructive-read": row(
    409,
    "A GET must not destroy what it reads",
    "Without KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 KVM_GET_DIRTY_LOG clears the log. POST to the " +
      "harvests of this dirty log instead: a harvest is kept until you acknowledge it.",
  ),
  "harvest-unacknowledged": row(
    409,
    "An earlier result is not acknowledged",
    "At most one result of a destructive read is kept. Name it in `after`, or DELETE it, once " +
      "its bytes are safe with you. `unacknowledged` has its id.",
  ),
  "harvest-acknowledged": row(
    410,
    "The stored answer's bytes are gone",
    "This Idempotency-Key made a harvest that was acknowledged since. Use a new key.",
  ),
  "ring-index": row(
    409,
    "The ring index goes back or past what was served",
    "`upTo` counts up without wrap, from harvestIndex up to the last entry that a GET served.",
  ),
  "no-dirty-ring": row(
    409,
    "The VM has no dirty rings",
    "Enable KVM_CAP_DIRTY_LOG_RING_ACQ_REL before the first vCPU.",
  ),
  "vgic-not-initialized": row(
    409,
    "The interrupt controller is not initialised",
    "KVM takes irqfds only once the in-kernel controller is initialised.",
  ),
  "out-of-range": row(
    422,
    "The range leaves the object",
    "Offset and length must lie inside the object, and one request moves 64 MiB at most.",
  ),
  "memory-unbacked": row(
    409,
    "Unbacked memory keeps no bytes",
    "Its content is computed from a seed and changes by guest stores only.",
  ),
  "invalid-program": row(
    422,
    "The program can't be executed",
    "A member of the program is outside what a synthetic vCPU does; the detail names it.",
  ),
  "gpa-not-mapped": row(409, "No memory at this guest-physical address", "A memslot must cover it."),
  "va-not-mapped": row(
    409,
    "Nothing to read at this virtual address",
    "The vCPU's stage-1 tables don't translate it, or no memory lies where they lead.",
  ),
  "vcpu-not-initialised": row(
    409,
    "The vCPU runs no guest code",
    "Initialise it first: POST …/initializations, KVM_ARM_VCPU_INIT.",
  ),
  "memory-object-unknown": row(422, "Unknown memory object in the body", "The VM has none such."),
  "eventfd-overflow": {
    ...row(
      409,
      "The eventfd's counter would overflow",
      "A counter holds at most 2^64 - 2; read it first.",
    ),
    errno: "EAGAIN",
  },
  "idempotency-mismatch": row(
    422,
    "The Idempotency-Key was used for another request",
    "Method, path and body must equal those of the first request with this key.",
  ),
  "idempotency-running": row(
    409,
    "The first request with this Idempotency-Key still runs",
    "Repeat later; its answer will be replayed.",
    1,
  ),
  "outcome-unknown": row(
    409,
    "The outcome of the first request is unknown",
    "The service ended while the first request with this Idempotency-Key ran. Look at the " +
      "resource, then use a new key.",
  ),

  "vm-held": row(
    409,
    "The VM is held",
    "It is being moved or saved, and nothing may change it for that moment. Ask again.",
  ),
  "vm-not-held": row(
    409,
    "The VM's vCPUs may run",
    "State is saved and loaded only while the VM is held.",
  ),
  "vm-not-movable": row(
    409,
    "The VM has to stay on this host",
    "A part of it is this host's own: an assigned device, a VFIO file, pages of a guest_memfd.",
  ),
  "state-leftover": row(
    422,
    "A part of the state is nobody's",
    "It comes from a host that knows more than this one. Nothing of it was loaded.",
  ),
  "state-mismatch": row(
    422,
    "The state doesn't fit the VM",
    "It is damaged, of another version, or of a VM that was built otherwise; `detail` names the part.",
  ),
  "bad-input-log": row(
    422,
    "The input log can't be replayed",
    "The log is not one that GET /v1/vms/{vm}/inputs gave, is of another version, or was cut. " +
      "`place` says where.",
  ),

  // Migrations.
  "migration-not-found": row(404, "No such migration", "It never was, or it was deleted."),
  "peer-unknown": row(
    422,
    "This host knows no such peer",
    "GET /v1/peers lists those of its list, PEERS_FILE. A URL of a request is never called.",
  ),
  "peer-unreachable": row(503, "The peer can't be reached", "It may be down; try again later.", 5),
  "peer-certificate": row(
    409,
    "The peer's certificate isn't accepted",
    "Whoever answers at its address shows a certificate that isn't the pinned one, or that no " +
      "authority vouches for: its `certificatePin` or `caFile` in PEERS_FILE says which may be.",
  ),
  "peer-refused": row(409, "The peer refuses", "`reason` is its own code, the detail its words."),
  "migration-in-progress": row(
    409,
    "The VM is being moved",
    "A VM moves once at a time, and what its target was told of it stays as it is meanwhile. " +
      "`migration` links to the session: let it end, or cancel it.",
  ),
  "migration-refused": row(
    409,
    "The VM can't move like that",
    "The detail says why. POST /v1/migrations with `validateOnly` lists every reason.",
  ),
  "migration-limit": row(429, "Too many migrations wait", "Let one end, or cancel one.", 10),
  "migration-ended": row(409, "The migration has ended", "Nothing of it goes on."),
  "migration-not-ended": row(409, "The migration has not ended", "Cancel it, or let it end."),
  "migration-committed": row(
    409,
    "Too late: the VM has been handed over",
    "Once the source has released the VM only the target runs it. Move it back instead.",
  ),
  "migration-state": row(
    409,
    "The migration is in another state",
    "`state` says in which. Read the migration and try what fits.",
  ),
  "migration-side": row(
    409,
    "Only the source can do that",
    "The VM arrives at this host: ask the host that it comes from.",
  ),
  "vm-migrated": row(
    409,
    "The VM runs on another host",
    "Only a record is left here; `migration` links to the session. Move it back, or delete this.",
  ),
  "vm-incoming": row(
    409,
    "The VM is being moved here",
    "It is held until its source lets go of it; `migration` links to the session.",
  ),
  "images-missing": row(
    409,
    "The target lacks guest images",
    "`missing` lists their hashes: PUT each to /v1/incoming-images/{sha256}, and offer again.",
  ),
  "image-hash": row(422, "The image has another hash", "The bytes were changed on their way."),
  "migration-version": row(
    409,
    "The hosts speak different versions",
    "Source and target have no version of passport and page stream in common: update one.",
  ),
  "target-memory": row(507, "The target has not enough memory", "Its budget is used up."),
  "target-eventfds": row(
    507,
    "The target has not enough eventfds",
    "EMFILE: delete some there that nobody uses.",
  ),
  "eventfd-busy": row(
    409,
    "An eventfd of the VM is in use at the target",
    "EBUSY: an irqfd of another VM there is bound to the eventfd of the same id.",
  ),
  "session-aborted": row(
    409,
    "The target never runs the VM by this session",
    "It gave the session up, or its service ended before the VM ran there.",
  ),
  "session-ready": row(409, "The target has everything", "Commit it, or abort it plainly."),
  "session-running": row(409, "The VM runs at the target", "It is too late to abort."),
  "session-refused": row(409, "The target refuses", "`reason` is the engine's word for why."),
  "session-later": row(503, "The target can't do that now", "The source repeats it.", 1),

  // The service as a whole.
  "vm-start-failed": row(503, "The VM's thread did not start", "The machine is out of threads.", 5),
  "store-unavailable": row(
    503,
    "Records can't be written",
    "The database refuses writes; GET /readyz says why. The effect of the request may stand.",
    5,
  ),
  "vm-limit": row(503, "The host runs as many VMs as it may", "Delete or stop one first.", 5),
  draining: row(503, "The service is shutting down", "Ask another host, or again later.", 5),
  overloaded: row(503, "The service is overloaded", "Wait as long as Retry-After says.", 2),
  "not-ready": row(503, "The service is not ready", "`checks` says what is missing.", 1),
  internal: row(
    500,
    "Internal error",
    "A defect of this service. The log has the cause under the answer's traceId.",
  ),
} as const satisfies Readonly<Record<string, ProblemRow>>;

export type ProblemCode = keyof typeof PROBLEMS;

/** @returns the row of a code, or undefined for a code that no row has. */
export function problemRow(code: string): ProblemRow | undefined {
  return Object.hasOwn(PROBLEMS, code) ? PROBLEMS[code as ProblemCode] : undefined;
}
