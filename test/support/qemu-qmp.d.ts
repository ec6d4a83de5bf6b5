// Owns: what is used of qemu-qmp 0.5.0, which has no types of its own.
declare module "qemu-qmp" {
  import { Socket } from "node:net";

  /** A client of QMP: commands go out without a line end, and answers come back by lines. */
  export default class QMP extends Socket {
    /** Of the greeting. */
    readonly version: { readonly package: string };
    connect(path: string, done: (error: Error | null) => void): this;
    execute(
      command: string,
      args: object,
      done: (error: Error | null, value: unknown) => void,
    ): void;
  }
}
