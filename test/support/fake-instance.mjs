// Owns: a VmInstance with a clear content, for tests of the runtime alone. Plain JavaScript, since
// a test's thread loads it beside compiled code.
//
// One context runs "accesses": each stirs the state. A step is one quantum, cut short when told. A
// command stirs the state too, so any difference in order or position shows in the digest.

const QUANTUM = 1000;
const SLICE = 50;

/** Commands that make the fake misbehave, as createDevice types. */
export const MISCHIEF = { bug: 666, deaf: 667 };

/** @param errors the error classes of the code under test: {KvmError} from src or from dist */
export function fakeFactory({ KvmError }) {
  return (definition, deps) => {
    if (definition.type === 99n) throw new KvmError("EINVAL", "KVM_CREATE_VM", "bad type");
    if (definition.type === 98n) throw new Error("built badly");
    return new FakeInstance(definition, deps, KvmError);
  };
}

class FakeInstance {
  memory = new WebAssembly.Memory({ initial: 1, maximum: 1024, shared: true });
  state = 1;
  seq = 0;
  step = 0;
  instructions = 0;
  cut = false;
  charged = 0;
  closed = false;
  /** Accesses that the run has left; Infinity is without end. */
  left = 0;
  finishRun = null;
  eventfds = [];

  constructor(definition, deps, KvmError) {
    this.definition = definition;
    this.deps = deps;
    this.KvmError = KvmError;
  }

  stamp() {
    const { seq, step, instructions, cut } = this;
    return { seq, step, instructions, virtualNs: instructions, cut };
  }

  submit(command, done) {
    const stamp = this.stamp();
    const handler = COMMANDS[command.name];
    if (!handler) throw new Error(`the fake has no ${command.name}`);
    if (!READS.has(command.name)) {
      this.seq++;
      this.stir(command.name.length);
    }
    try {
      const value = handler(this, command.args, done);
      if (value !== LATER) done({ ok: true, value });
    } catch (error) {
      if (!(error instanceof this.KvmError)) throw error;
      done({ ok: false, error });
    }
    return stamp;
  }

  advance(maxSteps, interrupted) {
    for (let i = 0; i < maxSteps; i++) {
      if (this.left <= 0) return "idle";
      this.quantum(QUANTUM, interrupted);
      if (interrupted()) break;
    }
    return this.left > 0 ? "runnable" : "idle";
  }

  msToSleep() {
    return Number.POSITIVE_INFINITY;
  }

  quantum(length, interrupted) {
    this.cut = false;
    for (let done = 0; done < length && this.left > 0; ) {
      const end = Math.min(done + SLICE, length);
      for (; done < end && this.left > 0; done++) this.access();
      if (done < length && interrupted()) {
        this.cut = true;
        break;
      }
    }
    this.step++;
    // The end of a quantum is visible too: round robin would have moved on.
    this.stir(3);
    if (this.left <= 0) this.endRun("KVM_EXIT_HLT");
  }

  advanceTo(stamp) {
    while (this.step < stamp.step && this.left > 0) {
      const rest = stamp.instructions - this.instructions;
      const last = this.step === stamp.step - 1 && stamp.cut;
      this.quantum(last ? rest : QUANTUM, () => false);
      if (last) this.cut = true;
    }
    if (this.instructions === stamp.instructions) return null;
    return `at ${this.instructions} instructions instead of ${stamp.instructions}`;
  }

  access() {
    this.left--;
    this.instructions++;
    this.stir(1);
    const fd = this.eventfds[0];
    if (fd !== undefined && this.instructions % 1000 === 0) this.deps.eventfds.signal(fd);
  }

  stir(by) {
    this.state = (Math.imul(this.state, 0x01000193) + by) >>> 0;
  }

  endRun(exitReason) {
    this.left = 0;
    const finish = this.finishRun;
    this.finishRun = null;
    const program = { completed: this.instructions, finished: true };
    finish?.({ ok: true, value: { errno: null, exitReason, retired: 0, program } });
  }

  takeNews() {
    return [];
  }

  digest() {
    return { digest: this.state.toString(16), parts: {} };
  }

  close() {
    this.closed = true;
    this.deps.budget.release(this.charged);
    for (const fd of this.eventfds) this.deps.eventfds.put(fd);
  }
}

const LATER = Symbol("answered later");
const READS = new Set(["describe", "readMemoryObject", "digest"]);

const COMMANDS = {
  describe: (vm) => ({ steps: vm.step, instructions: vm.instructions, replaying: false }),
  digest: (vm) => vm.digest(),
  // offset is the byte to fill with.
  readMemoryObject: (_vm, { offset, length }) => new Uint8Array(length).fill(Number(offset)),
  writeMemoryObject: (vm, { bytes }) => {
    for (const byte of bytes) vm.stir(byte);
    return null;
  },
  createMemoryObject: (vm, { size }) => {
    const bytes = Number(size);
    if (!vm.deps.budget.charge(bytes)) throw new vm.KvmError("ENOMEM", "mmap", "over budget");
    vm.charged += bytes;
    return { id: 1, userspaceAddr: 0n, size, backing: "ram", hugePages: false };
  },
  ioeventfd: (vm, { fd, flags }) => {
    if (!vm.deps.eventfds.get(fd.index)) throw new vm.KvmError("EBADF", "KVM_IOEVENTFD", "closed");
    if (flags === 4) {
      vm.deps.eventfds.put(fd.index);
      vm.deps.eventfds.put(vm.eventfds.splice(vm.eventfds.indexOf(fd.index), 1)[0]);
    } else {
      vm.eventfds.push(fd.index);
      vm.stir(fd.index);
      vm.deps.eventfds.signal(fd.index);
    }
    return null;
  },
  setProgram: (vm, { program }) => {
    vm.program = program;
    return { completed: 0, finished: false };
  },
  run: (vm, _args, done) => {
    vm.left = vm.program.count === 0 ? Number.POSITIVE_INFINITY : vm.program.count;
    vm.finishRun = done;
    return LATER;
  },
  kick: (vm) => {
    if (vm.finishRun) vm.endRun("KVM_EXIT_INTR");
    return null;
  },
  createDevice: (_vm, { type }) => {
    if (type === MISCHIEF.bug) throw new Error("an invariant is broken");
    while (type === MISCHIEF.deaf) {}
    return null;
  },
};
