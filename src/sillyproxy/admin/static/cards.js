/* Each color's card: its figures, and each figure's last five minutes. */

import { ceiling, extent, Line, lookBack } from "./chart.js";
import { h, icon, redraw, set, show, sync, write } from "./dom.js";
import { SPAN } from "./history.js";
import * as words from "./words.js";

/*
 * One row a figure: its line's key, its name, what the frame has of it now, how it is
 * written, and the least that its scale reaches up to, so that nothing looks like much.
 */
const ROWS = [
  { key: "share", name: "Share", now: (color) => color.share_seen, text: words.share, least: 1 },
  { key: "requests", name: "Requests", now: (color) => color.requests_per_s, text: words.rate, least: 1 },
  { key: "errors", name: "Errors", now: (color) => color.error_rate, text: words.share, least: 0.01 },
  { key: "p50", name: "p50", now: (color) => color.p50_ms, text: words.milliseconds, least: 1 },
  { key: "p95", name: "p95", now: (color) => color.p95_ms, text: words.milliseconds, least: 1 },
  { key: "p99", name: "p99", now: (color) => color.p99_ms, text: words.milliseconds, least: 1 },
  { key: "inflight", name: "Under way", now: (color) => color.inflight, text: words.count, least: 5 },
];

const VERDICTS = {
  worse: (baseline) => `worse than ${baseline}`,
  better: (baseline) => `better than ${baseline}`,
  same: (baseline) => `as good as ${baseline}`,
  unsure: () => "not sure yet",
  too_few: () => "too few requests to tell",
};

export class Cards {
  /** `onLook` is told how far back in time the pointer is over a line; null when it left. */
  constructor(mount, onLook) {
    this.mount = mount;
    mount.addEventListener("pointermove", (event) => {
      const line = event.target.closest(".line");
      onLook(line ? lookBack(event, line) : null);
    });
    mount.addEventListener("pointerleave", () => onLook(null));
    this.drawn = null;
    this.most = {};
    this.peak = {};
  }

  /** Write everything; lines only if there is a new second. */
  update(frame, history, inks, back) {
    const names = frame.colors.map((color) => color.name);
    const state = `${history.epoch}/${history.newest}/${history.points.size}/${names}`;
    if (state !== this.drawn) {
      this.drawn = state;
      this.lines = new Map(names.map((name) => [name, history.lines(name)]));
      for (const { key, least } of ROWS) {
        const { reach, peak } = extent([...this.lines.values()].map((lines) => lines[key]));
        this.most[key] = ceiling(reach, least, this.most[key]);
        this.peak[key] = peak;
      }
      this.fresh = true;
    }
    set(this.mount, { "data-count": Math.min(frame.colors.length, 4), "data-past": back > 0 });
    sync(this.mount, frame.colors, (color) => color.name, make, (card, color) => {
      inks.dip(card.node, color.name);
      writeHead(card, color, frame);
      card.rows.forEach((row, place) => this.writeRow(row, ROWS[place], color, names, back));
    });
    this.fresh = false;
  }

  writeRow(row, { key, name, now, text, least }, color, names, back) {
    const lines = this.lines.get(color.name);
    write(row.value, text(back ? lines[key][SPAN - 1 - back] : now(color)));
    write(row.note, key === "share" ? `asked ${words.share(back ? lines.asked[SPAN - 1 - back] : color.share_asked)}` : words.scale(this.most[key], text));
    write(row.peak, this.peak[key] > this.most[key] * 1.05 ? ` ↑${text(this.peak[key])}` : "");
    row.line.mark(back);
    if (!this.fresh && row.drawn) return;
    row.drawn = true;
    row.line.draw({
      values: lines[key],
      shadows: names.filter((other) => other !== color.name).map((other) => this.lines.get(other)[key]),
      asked: key === "share" ? lines.asked : null,
      most: this.most[key],
      label: tell(color.name, name, lines[key], text),
    });
  }
}

/** Say in words what a line shows. */
function tell(color, name, values, text) {
  const known = values.filter((value) => !Number.isNaN(value));
  if (!known.length) return `${name} of ${color}: nothing counted in the last 5 minutes`;
  const low = text(Math.min(...known));
  const high = text(Math.max(...known));
  return `${name} of ${color} over the last 5 minutes: ${low === high ? `always ${low}` : `between ${low} and ${high}`}`;
}

function make(color) {
  const badgeIcon = icon("same");
  const badgeText = h("span");
  const badge = h("p", { class: "badge" }, badgeIcon, badgeText);
  const facts = h("p", { class: "quiet card-facts" });
  const rows = ROWS.map(({ name }) => {
    const value = h("dd", { class: "value" });
    const note = h("span");
    const peak = h("span", { class: "peak" });
    const line = new Line();
    const node = h("div", { class: "row" }, h("dt", {}, h("span", {}, name), h("span", { class: "note" }, note, peak)), value, h("dd", { class: "drawn" }, line.node));
    return { node, value, note, peak, line, drawn: false };
  });
  const title = h("h3", {}, h("span", { class: "swatch", "aria-hidden": "true" }), h("span", { class: "name" }, color.name));
  const axis = h("p", { class: "note axis", "aria-hidden": "true" }, h("span", {}, "5 min ago"), h("span", {}, "now"));
  const node = h("article", { class: "card" }, h("header", {}, title, badge, facts), h("dl", {}, ...rows.map((row) => row.node)), axis);
  return { node, badge, badgeIcon, badgeText, facts, rows };
}

function writeHead(card, color, frame) {
  const compared = frame.comparisons.find((comparison) => comparison.candidate === color.name);
  const isBaseline = frame.comparisons.some((comparison) => comparison.baseline === color.name);
  show(card.badge, Boolean(compared) || isBaseline);
  set(card.badge, { "data-verdict": compared ? compared.verdict : "none" });
  show(card.badgeIcon, Boolean(compared));
  if (compared) {
    redraw(card.badgeIcon, compared.verdict);
    write(card.badgeText, VERDICTS[compared.verdict]?.(compared.baseline) ?? compared.verdict);
  } else write(card.badgeText, "the baseline");
  set(card.node, { "data-present": color.present });
  write(card.facts, describe(color));
}

function describe(color) {
  if (!color.present) return "no longer configured; what is under way may end";
  const up = color.endpoints.filter((endpoint) => endpoint.up).length;
  const endpoints = color.endpoints.length
    ? `${up} of ${words.several(color.endpoints.length, "endpoint")} up`
    : "no endpoints";
  const drained = color.weight === 0 ? ", takes nothing new" : "";
  return `weight ${words.weight(color.weight)}${drained} · ${endpoints}`;
}
