// Owns: nothing but the start of the thread that reads and writes snapshots. Snapshot thread.
import { giveWay, NICE } from "../../base/give-way.js";

giveWay(NICE.pages);
const { runSnapshotThread } = await import("./io-loop.js");
runSnapshotThread();
