// Owns: nothing but the start of the thread that reads and writes snapshots. Snapshot thread.
import { runSnapshotThread } from "./io-loop.js";

runSnapshotThread();
