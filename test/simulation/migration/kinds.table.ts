// Owns: kinds of VMs that the simulation moves, and what their pages go over. Data only.

export const KINDS = {
  toy: { said: null, is: {} },
  stream: { said: "a large toy", is: { isWire: true, isLarge: true } },
  board: { said: "a board", is: { isWire: true, isReal: true } },
} as const;

export type Kind = keyof typeof KINDS;
