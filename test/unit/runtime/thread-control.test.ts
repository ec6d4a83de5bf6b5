// Goal: a step is cut for exactly the inputs that wait, and no announcement is slept through.
// Method: both sides over one buffer in one thread, in the orders that threads can produce.
import { expect, test } from "vitest";
import { ThreadControl } from "../../../src/runtime/thread-control.js";

function pair(): { http: ThreadControl; vm: ThreadControl } {
  const http = ThreadControl.create();
  return { http, vm: new ThreadControl(http.shared) };
}

test("only an urgent message interrupts, until it is taken", () => {
  const { http, vm } = pair();
  http.announce(false);
  expect(vm.isInterrupted()).toBe(false);
  http.announce(true);
  expect(vm.isInterrupted()).toBe(true);
  vm.mark();
  vm.take(false);
  expect(vm.isInterrupted()).toBe(true);
  vm.take(true);
  expect(vm.isInterrupted()).toBe(false);
});

test("a message taken before it was announced never interrupts", () => {
  const { http, vm } = pair();
  vm.mark();
  vm.take(true);
  expect(vm.isInterrupted()).toBe(false);
  http.announce(true);
  expect(vm.isInterrupted()).toBe(false);
  http.announce(true);
  expect(vm.isInterrupted()).toBe(true);
});

test("a turn takes what was announced before its mark and leaves the rest", () => {
  const { http, vm } = pair();
  http.announce(false);
  http.announce(true);
  vm.mark();
  http.announce(false);
  for (const urgent of [false, true]) {
    expect(vm.hasMore()).toBe(true);
    vm.take(urgent);
  }
  expect(vm.hasMore()).toBe(false);
  vm.mark();
  expect(vm.hasMore()).toBe(true);
});

test("sleep returns at once for what was announced after the mark", () => {
  const { http, vm } = pair();
  vm.mark();
  http.announce(false);
  vm.sleep();
  vm.mark();
  vm.sleep(1);
  http.end();
  vm.sleep();
  expect([vm.isEnding(), vm.isInterrupted()]).toEqual([true, true]);
});
