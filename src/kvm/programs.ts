// Owns: the programs of synthetic vCPUs, handed up from the machine: KVM itself never looks inside.
// Any thread.
export { ListSource, PatternSource } from "../machine/index.js";
