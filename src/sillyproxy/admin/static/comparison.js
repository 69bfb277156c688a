/* The verdicts at the top, and the tables that they rest on. */

import { Range } from "./chart.js";
import { h, icon, redraw, set, sync, write } from "./dom.js";
import { inside, Table } from "./table.js";
import * as words from "./words.js";

const MEASURES = { error_rate: "Errors", p50: "p50", p95: "p95", p99: "p99" };
const WORDS = { worse: "worse", better: "better", same: "same", unsure: "not sure", too_few: "too few" };

const nameOf = (comparison) => `${comparison.baseline}\n${comparison.candidate}`;

/** Return the sentence that stands for a frame without comparisons. */
function withoutComparison(frame) {
  const taking = frame.colors.filter((color) => color.present && color.weight > 0);
  if (taking.length === 1) return `${taking[0].name} takes all traffic; there is nothing to compare it with.`;
  if (!frame.colors.some((color) => color.present)) return "No color is configured.";
  return taking.length ? "Nothing to compare yet." : "Every color is at weight 0: nobody takes new requests.";
}

/** Write the sentences at the top. */
export function writeVerdicts(mount, frame) {
  const none = { text: withoutComparison(frame), verdict: "none", measures: [], baseline: "", candidate: "" };
  const sentences = frame.comparisons.length ? frame.comparisons : [none];
  set(mount, { "data-many": sentences.length > 2 });
  sync(mount, sentences, nameOf, makeVerdict, (parts, comparison) => {
    set(parts.node, { "data-verdict": comparison.verdict });
    redraw(parts.icon, comparison.verdict === "none" ? "info" : comparison.verdict);
    write(parts.sentence, comparison.text);
    sync(parts.chips, comparison.measures, (one) => one.measure, makeChip, (chip, one) => {
      set(chip.node, { "data-verdict": one.verdict });
      redraw(chip.icon, one.verdict);
      write(chip.text, `${MEASURES[one.measure] ?? one.measure}: ${WORDS[one.verdict] ?? one.verdict}`);
    });
  });
}

function makeVerdict() {
  const sign = icon("info");
  const sentence = h("p", { class: "sentence" });
  const chips = h("ul", { class: "chips" });
  const node = h("div", { class: "verdict" }, sign, h("div", {}, sentence, chips));
  return { node, icon: sign, sentence, chips };
}

function makeChip() {
  const sign = icon("same");
  const text = h("span");
  return { node: h("li", { class: "chip" }, sign, text), icon: sign, text };
}

/** Write a table for each comparison. */
export function writeComparisons(mount, frame, inks) {
  sync(mount, frame.comparisons, nameOf, (comparison) => makeComparison(comparison, inks), (parts, comparison) => {
    inks.dip(parts.candidate, comparison.candidate);
    inks.dip(parts.baseline, comparison.baseline);
    write(parts.over, over(frame, comparison));
    parts.table.update(comparison.measures);
  });
}

function over(frame, comparison) {
  const requests = (name) => words.count(frame.colors.find((color) => color.name === name)?.requests ?? 0);
  const seconds = Math.min(frame.window_s, frame.history_s);
  return `over the last ${words.duration(seconds)}: ${requests(comparison.candidate)} requests of ${comparison.candidate}, ${requests(comparison.baseline)} of ${comparison.baseline}`;
}

function makeComparison({ baseline, candidate }) {
  const color = (name) => h("span", { class: "color" }, h("span", { class: "swatch", "aria-hidden": "true" }), h("span", {}, name));
  const parts = { candidate: color(candidate), baseline: color(baseline), over: h("span", { class: "quiet" }) };
  parts.node = h("div", { class: "comparison" }, h("h3", {}, parts.candidate, " against ", parts.baseline, " ", parts.over));
  parts.table = new Table(parts.node, {
    caption: `${candidate} compared with ${baseline}`,
    keyOf: (one) => one.measure,
    kind: "dense",
    columns: [
      { name: "Measure", text: (one) => MEASURES[one.measure] ?? one.measure },
      { name: baseline, kind: "number", text: (one) => words.measured(one.baseline, one.unit) },
      { name: candidate, kind: "number", text: (one) => words.measured(one.candidate, one.unit) },
      { name: "Difference", kind: "number", text: (one) => words.difference(one.difference, one.unit) },
      { name: "95 % interval: better ‹ 0 › worse", kind: "wide", draw: drawInterval },
      { name: "In words", kind: "words", draw: drawWords },
    ],
  });
  return parts;
}

function drawInterval(cell, one) {
  const { range, text } = inside(cell, () => {
    const made = { range: new Range(), text: h("span", { class: "interval" }) };
    cell.append(h("div", { class: "interval-cell" }, made.range.node, made.text));
    return made;
  });
  write(text, words.interval(one.low, one.high, one.unit));
  range.draw({
    low: one.low,
    high: one.high,
    middle: one.difference,
    verdict: one.verdict,
    least: one.unit === "share" ? 0.001 : 0.1,
  });
}

function drawWords(cell, one) {
  const { node, sign, text } = inside(cell, () => {
    const made = { sign: icon("same"), text: h("span") };
    made.node = h("div", { class: "said" }, made.sign, made.text);
    cell.append(made.node);
    return made;
  });
  set(node, { "data-verdict": one.verdict });
  redraw(sign, one.verdict);
  write(text, one.text);
}
