/* What an operator must not overlook: the proxy's own state, when it is not as it should be. */

import { h, icon, redraw, set, sync, write } from "./dom.js";
import * as words from "./words.js";

/** Write whether the proxy is ready. */
export function writeReadiness(node, frame) {
  const [tone, text] = frame.draining
    ? ["warn", "Draining"]
    : !frame.ready
      ? ["bad", "Not ready"]
      : !frame.started
        ? ["warn", "Starting"]
        : ["good", `Ready · generation ${frame.generation}`];
  set(node, { "data-tone": tone });
  write(node, text);
}

/** Write the notices. */
export function writeNotices(mount, frame) {
  sync(mount, find(frame), (notice) => notice.key, make, (parts, { tone, text, lines }) => {
    set(parts.node, { "data-tone": tone });
    redraw(parts.icon, tone === "bad" ? "worse" : "info");
    write(parts.text, text);
    parts.lines.hidden = lines.length === 0;
    sync(parts.lines, lines, (line) => line, (line) => ({ node: h("li", {}, line) }), () => {});
  });
}

function make() {
  const sign = icon("info");
  const text = h("p");
  const lines = h("ul");
  return { node: h("div", { class: "notice" }, sign, h("div", {}, text, lines)), icon: sign, text, lines };
}

function find(frame) {
  const notices = [];
  const note = (key, tone, text, lines = []) => notices.push({ key, tone, text, lines });
  if (frame.draining) note("draining", "warn", `Draining: ${words.several(frame.totals.inflight, "request")} under way may end, then this proxy stops.`);
  else if (!frame.ready) note("ready", "bad", `Not ready: ${frame.reason}`);
  else if (!frame.started) note("started", "warn", `Not started yet: ${frame.awaited}`);
  if (frame.reload?.result === "refused") {
    const when = words.clock(frame.reload.at);
    note("refused", "bad", `The configuration of ${when} was refused. Generation ${frame.reload.generation} stays in force.`, frame.reload.problems);
  }
  if (frame.memory?.shedding) note("memory", "bad", "Memory is short: connections are being turned away.");
  const stale = Object.entries(frame.dns?.problems ?? {});
  if (stale.length) note("dns", "warn", "Addresses may be old, as names could not be looked up:", stale.map(([host, problem]) => `${host}: ${problem}`));
  return notices;
}
