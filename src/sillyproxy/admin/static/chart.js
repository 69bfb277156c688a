/*
 * Drawings: a line over five minutes, a split bar, a range around zero.
 *
 * A line is stretched to whatever width there is, while its strokes stay as thin as they
 * are. Nothing here knows what is drawn; scales are given, so that lines of several colors
 * can be compared.
 */

import { h, set, svg, write } from "./dom.js";
import { SPAN } from "./history.js";

const HEIGHT = 40;
const EDGE = 2;

/**
 * Return how far a scale reaches: a round number that is not below `value` and `least`.
 * One that was chosen `before` stays while it still fits, so that lines do not jump.
 */
export function ceiling(value, least, before = 0) {
  const wanted = Math.max(value, least);
  if (wanted <= before && wanted > before * 0.55) return before;
  const power = 10 ** Math.floor(Math.log10(wanted));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].map((step) => step * power).find((step) => step >= wanted * 0.9999);
}

/**
 * Return `{reach, peak}` of lines: up to where most of them are, and their highest value.
 * One bad second would press all others flat; its line just ends at the top.
 */
export function extent(lines) {
  const values = lines.flatMap((line) => [...line].filter((value) => !Number.isNaN(value))).sort((a, b) => a - b);
  const peak = values.at(-1) ?? 0;
  const common = values[Math.floor(values.length * 0.98)] ?? 0;
  return { reach: Math.min(peak, common * 1.6), peak };
}

/** Return the path of a line, broken where nothing is known. */
export function path(values, most) {
  let text = "";
  let drawing = false;
  for (let place = 0; place < values.length; place += 1) {
    const value = values[place];
    if (Number.isNaN(value)) {
      drawing = false;
      continue;
    }
    text += `${drawing ? "L" : "M"}${place} ${height(value, most)}`;
    // A second that stands alone is a dot, which a line of no length is.
    if (!drawing && Number.isNaN(values[place + 1] ?? NaN)) text += "h0";
    drawing = true;
  }
  return text;
}

function height(value, most) {
  return (HEIGHT - EDGE - (Math.min(value, most) / most) * (HEIGHT - 2 * EDGE)).toFixed(1);
}

/** A line of one color, others as shadows behind it, maybe what was asked for. */
export class Line {
  constructor() {
    const stroke = (name) => svg("path", { class: name, "vector-effect": "non-scaling-stroke" });
    this.shadows = svg("g");
    this.asked = stroke("line-asked");
    this.line = stroke("line-own");
    this.end = stroke("line-end");
    this.cursor = stroke("line-cursor");
    const base = svg("path", { class: "line-base", "vector-effect": "non-scaling-stroke", d: `M0 ${HEIGHT - EDGE}h${SPAN}` });
    this.node = svg(
      "svg",
      { class: "line", viewBox: `0 0 ${SPAN - 1} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" },
      base, this.shadows, this.asked, this.line, this.end, this.cursor,
    );
  }

  /** Draw on a scale from 0 to `most`; `label` is what it shows, in words. */
  draw({ values, shadows, asked, most, label }) {
    while (this.shadows.childElementCount > shadows.length) this.shadows.lastChild.remove();
    while (this.shadows.childElementCount < shadows.length) {
      this.shadows.append(svg("path", { class: "line-shadow", "vector-effect": "non-scaling-stroke" }));
    }
    shadows.forEach((line, place) => set(this.shadows.children[place], { d: path(line, most) }));
    set(this.asked, { d: asked ? path(asked, most) : "" });
    set(this.line, { d: path(values, most) });
    const last = values[SPAN - 1];
    set(this.end, { d: Number.isNaN(last) ? "" : `M${SPAN - 1} ${height(last, most)}h0` });
    set(this.node, { "aria-label": label });
  }

  /** Mark a second before the newest; 0 marks none. */
  mark(back) {
    set(this.cursor, { d: back ? `M${SPAN - 1 - back} 0v${HEIGHT}` : "" });
  }
}

/** Return how far back in time the pointer is over a line. */
export function lookBack(event, node) {
  const box = node.getBoundingClientRect();
  const part = (event.clientX - box.left) / box.width;
  return Math.round((1 - Math.min(1, Math.max(0, part))) * (SPAN - 1));
}

/** How far an interval reaches from zero, and to which side. */
export class Range {
  constructor() {
    this.bar = h("span", { class: "range-bar" });
    this.dot = h("span", { class: "range-dot" });
    this.node = h("div", { class: "range", "aria-hidden": "true" }, h("span", { class: "range-zero" }), this.bar, this.dot);
  }

  /**
   * Draw on a scale that is the same on both sides of zero, and reaches as far as it must.
   * An end that is null is not known: the interval then reaches to the scale's.
   */
  draw({ low, high, middle, verdict, least }) {
    const known = middle !== null && (low !== null || high !== null);
    set(this.node, { "data-verdict": verdict, "data-known": known });
    if (!known) return;
    this.most = ceiling(Math.max(...[low, high, middle].map(Math.abs)) * 1.05, least, this.most);
    const place = (value) => 50 + (value / this.most) * 50;
    const [from, to] = [low ?? -this.most, high ?? this.most];
    set(this.bar, { "data-open": low === null ? "low" : high === null ? "high" : null });
    this.bar.style.left = `${place(from)}%`;
    this.bar.style.width = `${place(to) - place(from)}%`;
    this.dot.style.left = `${place(middle)}%`;
  }
}

/** A bar that colors divide among themselves. */
export class SplitBar {
  constructor(node) {
    this.node = node;
    this.parts = new Map();
  }

  /** Draw `[{name, part, text}]`; `label` says the same in words. */
  draw(shares, label, inks) {
    set(this.node, { "aria-label": label });
    for (const [name, part] of this.parts) {
      if (!shares.some((share) => share.name === name)) {
        part.remove();
        this.parts.delete(name);
      }
    }
    for (const { name, part, text } of shares) {
      let node = this.parts.get(name);
      if (!node) {
        const text = h("span");
        node = h("span", { class: "split-part" }, h("span", { class: "split-text" }, h("span", { class: "split-color" }, `${name} `), text));
        this.parts.set(name, node);
        this.node.append(node);
      }
      inks.dip(node, name);
      node.style.flexGrow = part.toFixed(4);
      set(node, { "data-empty": part === 0 });
      write(node.firstChild.lastChild, text);
    }
  }
}
