/* What stands below: endpoints, events, answers, workers, configuration. */

import { h, icon, redraw, set, show, sync, write } from "./dom.js";
import { inside, Table, writeColor } from "./table.js";
import * as words from "./words.js";

const STATES = {
  up: { icon: "ok", tone: "good" },
  avoided: { icon: "pause", tone: "warn" },
  ejected: { icon: "out", tone: "bad" },
  unhealthy: { icon: "out", tone: "bad" },
};
const LEVELS = { info: { icon: "info", tone: "quiet" }, warning: { icon: "worse", tone: "warn" }, error: { icon: "out", tone: "bad" } };

const byId = (id) => document.getElementById(id);

/** The sections below the comparison, in the page's order. */
export class Details {
  constructor(inks) {
    this.inks = inks;
    this.now = 0;
    this.endpoints = this.makeEndpoints();
    this.answers = this.makeAnswers();
    this.workers = makeWorkers();
    this.config = new Settings();
    this.events = h("ol", { class: "events" });
    this.quiet = h("p", { class: "quiet" }, "Nothing has happened since the start.");
    byId("events-list").append(this.events, this.quiet);
  }

  update(frame) {
    this.now = frame.time;
    const endpoints = frame.colors.flatMap((color) =>
      color.endpoints.map((endpoint) => ({ ...endpoint, color: color.name, url: color.upstreams[endpoint.upstream] ?? "" })),
    );
    const up = endpoints.filter((endpoint) => endpoint.up).length;
    write(byId("endpoints-facts"), endpoints.length ? `${up} of ${words.count(endpoints.length)} up` : "");
    this.endpoints.update(endpoints);
    this.answers.update(frame.colors);
    this.workers.update(frame.workers);
    write(byId("workers-facts"), describeProcess(frame));
    this.writeEvents(frame.events);
    this.config.update(frame);
  }

  makeEndpoints() {
    return new Table(byId("endpoints-table"), {
      caption: "Endpoints of every color",
      empty: "No endpoint is known.",
      keyOf: (one) => `${one.color}\n${one.url}\n${one.address}`,
      columns: [
        { name: "Endpoint", kind: "code address", draw: writeEndpoint },
        { name: "Color", draw: (cell, one) => writeColor(cell, one.color, this.inks) },
        { name: "State", draw: (cell, one) => writeState(cell, one) },
        { name: "Why", kind: "words", text: (one) => one.reason || words.NONE },
        { name: "Until", kind: "number", text: (one) => this.until(one) },
      ],
    });
  }

  until({ until, ejections }) {
    if (!until) return words.NONE;
    const times = ejections > 1 ? ` (${ejections}×)` : "";
    const left = until - this.now;
    return left > 0 ? `${words.clock(until)}, in ${words.duration(left)}${times}` : `now${times}`;
  }

  makeAnswers() {
    const code = (name) => ({ name, kind: "number", text: (color) => words.count(color.codes[name]) });
    return new Table(byId("answers-table"), {
      caption: "Answers and connections of every color",
      empty: "No color is configured.",
      keyOf: (color) => color.name,
      kind: "dense",
      columns: [
        { name: "Color", draw: (cell, color) => writeColor(cell, color.name, this.inks) },
        { name: "Requests", kind: "number", text: (color) => words.count(color.requests) },
        code("2xx"),
        code("3xx"),
        code("4xx"),
        { ...code("5xx"), kind: "number telling" },
        { name: "Mean", kind: "number", text: (color) => words.milliseconds(color.mean_ms) },
        { name: "Retried", kind: "number", text: (color) => words.count(color.retries) },
        { name: "Sent elsewhere", kind: "number", text: (color) => words.count(color.fallbacks) },
        { name: "Waiting", kind: "number", text: (color) => words.count(color.queue_waiting) },
        { name: "Upstream: in use", kind: "number", text: (color) => words.count(color.upstream_connections.active) },
        { name: "kept idle", kind: "number", text: (color) => words.count(color.upstream_connections.idle) },
      ],
    });
  }

  writeEvents(events) {
    show(this.quiet, events.length === 0);
    show(this.events, events.length > 0);
    sync(this.events, events, (event) => event.id, makeEvent, (parts, event) => {
      write(parts.time, words.clock(event.time));
      parts.color.hidden = !event.color;
      if (event.color) {
        write(parts.colorName, event.color);
        this.inks.dip(parts.color, event.color);
      }
    });
  }
}

function writeEndpoint(cell, one) {
  const parts = inside(cell, () => {
    const made = { address: h("span"), url: h("span", { class: "note" }) };
    cell.append(made.address, made.url);
    return made;
  });
  write(parts.address, one.address);
  // A URL that only repeats the address says nothing.
  write(parts.url, one.url === `http://${one.address}` ? "" : one.url);
}

function writeState(cell, one) {
  const parts = inside(cell, () => {
    const made = { sign: icon("ok"), text: h("span") };
    made.node = h("span", { class: "state" }, made.sign, made.text);
    cell.append(made.node);
    return made;
  });
  const { icon: name, tone } = STATES[one.state] ?? STATES.unhealthy;
  set(parts.node, { "data-tone": tone });
  redraw(parts.sign, name);
  write(parts.text, one.state);
}

function makeEvent(event) {
  const { icon: name, tone } = LEVELS[event.level] ?? LEVELS.info;
  const time = h("time", { datetime: new Date(event.time * 1000).toISOString() });
  const colorName = h("span");
  const color = h("span", { class: "color" }, h("span", { class: "swatch", "aria-hidden": "true" }), colorName);
  const level = event.level === "info" ? null : h("span", { class: "unseen" }, `${event.level}: `);
  const text = h("p", {}, level, event.text);
  const node = h("li", { "data-tone": tone }, icon(name), h("p", { class: "when" }, time, h("span", { class: "kind" }, event.kind), color), text);
  return { node, time, color, colorName };
}

function makeWorkers() {
  const lag = (worker) => words.milliseconds(worker.loop_lag_ms);
  return new Table(byId("workers-table"), {
    caption: "Worker processes",
    empty: "No worker has said hello yet.",
    keyOf: (worker) => worker.index,
    kind: "dense",
    columns: [
      { name: "Process", text: (worker) => `worker ${worker.index}` },
      { name: "PID", kind: "number", text: (worker) => String(worker.pid) },
      { name: "Generation", kind: "number", text: (worker) => String(worker.generation) },
      { name: "Memory", kind: "number", text: (worker) => words.bytes(worker.memory_bytes) },
      { name: "Open files", kind: "number", text: (worker) => words.count(worker.open_files) },
      { name: "Longest wait of an event", kind: "number", text: lag },
    ],
  });
}

function describeProcess(frame) {
  const parts = [];
  const { used_bytes: used, limit_bytes: limit } = frame.memory ?? {};
  if (used) parts.push(`memory ${words.bytes(used)}${limit ? ` of ${words.bytes(limit)}` : ""}`);
  const lookups = Object.entries(frame.dns?.lookups ?? {}).filter(([, number]) => number);
  if (lookups.length) parts.push(`DNS look-ups: ${lookups.map(([result, number]) => `${words.count(number)} ${result}`).join(", ")}`);
  return parts.join(" · ");
}

/** The effective configuration, and its filter. */
class Settings {
  constructor() {
    this.filter = byId("config-filter");
    this.onlySet = byId("config-set");
    for (const field of [this.filter, this.onlySet]) field.addEventListener("input", () => this.write());
    this.table = new Table(byId("config-table"), {
      caption: "Effective configuration",
      empty: "No setting matches.",
      keyOf: (setting) => setting.name,
      columns: [
        { name: "Setting", kind: "setting", draw: writeSetting },
        { name: "Value", kind: "code", text: (setting) => setting.value || words.NONE },
        { name: "Comes from", kind: "origin", text: (setting) => setting.origin },
      ],
    });
  }

  update(frame) {
    const state = `${frame.epoch}/${frame.config.generation}/${frame.config.settings.length}`;
    if (state === this.state) return;
    this.state = state;
    this.generation = frame.config.generation;
    this.settings = frame.config.settings;
    this.write();
  }

  write() {
    if (!this.settings) return;
    const wanted = this.filter.value.trim().toLowerCase();
    const found = this.settings.filter(
      ({ name, value, origin }) =>
        (!this.onlySet.checked || origin !== "default") && `${name}\n${value}\n${origin}`.toLowerCase().includes(wanted),
    );
    this.table.update(found);
    write(byId("config-facts"), `generation ${this.generation} · ${words.count(found.length)} of ${words.several(this.settings.length, "setting")}`);
  }
}

function writeSetting(cell, setting) {
  const parts = inside(cell, () => {
    const made = { name: h("span", { class: "setting-name" }) };
    // Between backticks stands what an operator would type.
    const pieces = (setting.help ?? "").split("`").map((piece, place) => (place % 2 ? h("code", {}, piece) : piece));
    cell.append(made.name, h("span", { class: "note" }, ...pieces));
    return made;
  });
  write(parts.name, setting.name);
}
