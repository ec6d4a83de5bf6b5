// Owns: the settings of dirty tracking: catalogue, a VM's own, changes of them. HTTP thread.
import { defaultOf, type SettingValue } from "../../base/settings.js";
import { DIRTY_SETTINGS } from "../../service/index.js";
import { JSON_TYPE, MERGE_PATCH } from "../content.js";
import type { ApiDeps } from "../deps.js";
import { json, type Operation, operation } from "../operation.js";
import { VmParams } from "../schemas/common.schema.js";
import {
  DirtyCatalogue,
  DirtyPatch,
  DirtySettings,
  dirtyCatalogue,
} from "../schemas/dirty-settings.schema.js";

/** null stands for the default. */
function withDefaults(
  patch: Readonly<Record<string, SettingValue | null>>,
): Record<string, SettingValue> {
  const entries = Object.entries(patch).flatMap(([key, value]): [string, SettingValue][] => {
    const row = DIRTY_SETTINGS[key];
    return row === undefined ? [] : [[key, value ?? defaultOf(row)]];
  });
  return Object.fromEntries(entries);
}

export function dirtySettingsOperations({ services }: ApiDeps): readonly Operation[] {
  const { vms } = services;
  const path = "/v1/vms/{vm}/dirty-settings";
  return [
    operation({
      id: "listDirtySettings",
      method: "GET",
      path: "/v1/dirty-settings",
      tag: "dirty-hardware",
      scope: "host:read",
      summary: "List every setting of dirty tracking",
      description:
        "Choices of silicon and of KVM, the seeds' defects, faults that can be armed, mistakes " +
        "that are reported: each with its sentence, its values and where it comes from.",
      answers: { 200: json("The catalogue.", DirtyCatalogue) },
      handle: () => dirtyCatalogue(),
    }),
    operation({
      id: "getVmDirtySettings",
      method: "GET",
      path,
      tag: "dirty-hardware",
      scope: "vm:read",
      summary: "Read a VM's settings of dirty tracking",
      description: "Every setting as it is in force, defaults included.",
      params: VmParams,
      answers: { 200: json("The settings.", DirtySettings) },
      problems: ["vm-not-found", "vm-not-active"],
      handle: async ({ params }) => (await vms.command(params.vm, "describeDirty", {})).value,
    }),
    operation({
      id: "patchVmDirtySettings",
      method: "PATCH",
      path,
      tag: "dirty-hardware",
      scope: "vm:write",
      summary: "Change a VM's settings of dirty tracking",
      description:
        "RFC 7396 merge patch, all or nothing: absent stays, null goes back to the default. An " +
        "input of the VM like any other, and part of its definition from then on.",
      params: VmParams,
      body: DirtyPatch,
      bodyType: MERGE_PATCH,
      answers: { 200: json("The settings as they are now.", DirtySettings) },
      problems: ["validation", "vm-not-found", "setting-fixed", "dirty-log-owned", "vm-not-active"],
      handle: async ({ params, body, reply }) => {
        const settings = withDefaults(body.settings ?? {});
        const change = { settings, seedBugs: body.seedBugs ?? null };
        return reply.type(JSON_TYPE).send(await vms.changeDirty(params.vm, change));
      },
    }),
  ];
}
