// Owns: the KVM-VFIO device and the VFIO files that it is told of. VM thread.
// The files are emulated: descriptors of the VMM's process that stand for assigned devices. KVM
// keeps a list of them and looks at nothing else of a file here.
// @source virt/kvm/vfio.c by behaviour; kvm-uapi.md 6.4; recordings of a real host
import { KvmError } from "../base/errors.js";
import type { Saved } from "../base/saved.js";
import type { GuestMemfds } from "./guest-memfd.js";
import type { KvmDevice } from "./vgic/device-port.js";

const SET = "KVM_SET_DEVICE_ATTR";
const GROUP_FILE = 1;
const FILE = { ADD: 1n, DEL: 2n } as const;
/** A descriptor number is an int. */
const FD_BYTES = 4;
/** Descriptors of VFIO files begin here: guest_memfds of the same process have the low numbers. */
const FIRST_FD = 1 << 20;

export interface VfioFile {
  readonly fd: number;
  /** Its descriptor is open; KVM's list may hold a file whose descriptor is closed. */
  isOpen: boolean;
  /** On KVM's list. */
  isAdded: boolean;
}

export class VfioFiles {
  readonly #memfds: GuestMemfds;
  #files: VfioFile[] = [];
  #nextFd = FIRST_FD;
  /** The VM's KVM-VFIO device: there is one at most. */
  device: VfioDevice | null = null;

  constructor(memfds: GuestMemfds) {
    this.#memfds = memfds;
  }

  /** Descriptors that are open, in order of their numbers. */
  list(): readonly Readonly<VfioFile>[] {
    return this.#files.filter(({ isOpen }) => isOpen);
  }

  open(): Readonly<VfioFile> {
    const file = { fd: this.#nextFd++, isOpen: true, isAdded: false };
    this.#files.push(file);
    return file;
  }

  /** @returns false: no VFIO file has that descriptor */
  close(fd: number): boolean {
    const file = this.list().find((one) => one.fd === fd) as VfioFile | undefined;
    if (file === undefined) return false;
    file.isOpen = false;
    this.#forget();
    return true;
  }

  /**
   * The file behind a descriptor that KVM was given.
   * @returns null: it is open, but no VFIO file
   * @throws KvmError EBADF
   */
  resolve(fd: number): VfioFile | null {
    const file = this.#files.find((one) => one.isOpen && one.fd === fd);
    if (file !== undefined) return file;
    if (this.#memfds.open(fd) !== undefined) return null;
    throw new KvmError("EBADF", SET, `the VMM's process has no open descriptor ${fd}`);
  }

  /** KVM lets go of all files: its device was closed. */
  dropAll(): void {
    for (const file of this.#files) file.isAdded = false;
    this.#forget();
  }

  /** Files that nobody holds any more. */
  #forget(): void {
    this.#files = this.#files.filter(({ isOpen, isAdded }) => isOpen || isAdded);
  }

  save(): Saved {
    const files = this.#files.map((file) => ({ ...file }));
    const data = { files, nextFd: this.#nextFd, hasDevice: this.device !== null };
    return { kind: "vfio-files", version: 1, data };
  }

  /** Into a VM that has the same devices. */
  load(saved: Saved): void {
    const { files, nextFd } = saved.data as { files: VfioFile[]; nextFd: number };
    this.#files = files.map((file) => ({ ...file }));
    this.#nextFd = nextFd;
  }
}

/** KVM_DEV_TYPE_VFIO. */
export class VfioDevice implements KvmDevice {
  readonly type = 4;
  readonly #files: VfioFiles;

  /** @throws KvmError EBUSY: the VM has one */
  constructor(files: VfioFiles) {
    if (files.device !== null) {
      throw new KvmError("EBUSY", "KVM_CREATE_DEVICE", "the VM has its KVM-VFIO device");
    }
    this.#files = files;
    files.device = this;
  }

  get isClosed(): boolean {
    return this.#files.device !== this;
  }

  close(): void {
    this.#files.device = null;
    this.#files.dropAll();
  }

  has(group: number, attr: bigint): void {
    if (group === GROUP_FILE && (attr === FILE.ADD || attr === FILE.DEL)) return;
    throw new KvmError("ENXIO", "KVM_HAS_DEVICE_ATTR", "its group is 1 FILE: 1 ADD, 2 DEL");
  }

  /** The device has no such operation, whatever is asked for. */
  get(): Uint8Array {
    throw new KvmError("EPERM", "KVM_GET_DEVICE_ATTR", "nothing of a KVM-VFIO device can be read");
  }

  set(group: number, attr: bigint, value: Uint8Array): void {
    if (group !== GROUP_FILE || (attr !== FILE.ADD && attr !== FILE.DEL)) {
      throw new KvmError("ENXIO", SET, "its group is 1 FILE: 1 ADD, 2 DEL");
    }
    if (value.length < FD_BYTES) {
      throw new KvmError("EFAULT", SET, "the value is a descriptor: four bytes");
    }
    const fd = new DataView(value.buffer, value.byteOffset).getInt32(0, true);
    const file = this.#files.resolve(fd);
    if (attr === FILE.DEL) {
      if (file?.isAdded !== true) throw new KvmError("ENOENT", SET, "KVM was not told of the file");
      file.isAdded = false;
      return;
    }
    if (file === null) throw new KvmError("EINVAL", SET, "the descriptor is no VFIO file");
    if (file.isAdded) throw new KvmError("EEXIST", SET, "KVM knows the file already");
    file.isAdded = true;
  }
}
