/*
 * The dashboard: what comes over the stream is kept, and drawn at most once a frame.
 *
 * A hidden tab gets no animation frames, so nothing is drawn in it; what comes is kept all
 * the same, and its lines are whole when somebody looks again.
 */

import { Cards } from "./cards.js";
import { SplitBar } from "./chart.js";
import { writeComparisons, writeVerdicts } from "./comparison.js";
import { Details } from "./details.js";
import { h, set, show, sync, write } from "./dom.js";
import { History } from "./history.js";
import { Inks } from "./ink.js";
import { writeNotices, writeReadiness } from "./notices.js";
import { Stream } from "./stream.js";
import * as words from "./words.js";

const WINDOWS = ["60", "300", "900"];
const SECTIONS = ["traffic", "endpoints", "events", "answers", "workers", "config"];
const byId = (id) => document.getElementById(id);

const inks = new Inks();
const history = new History();
const cards = new Cards(byId("cards"), (back) => {
  if (back === pointed) return;
  pointed = back;
  draw();
});
const details = new Details(inks);
const askedBar = new SplitBar(byId("split-asked"));
const seenBar = new SplitBar(byId("split-seen"));
const lookback = byId("lookback");

let frame = null;
let pointed = null; // where the pointer is over a line, in seconds before now
let silence = 0; // seconds without a word from the proxy; 0 while it is live
let planned = false;

function draw() {
  if (planned) return;
  planned = true;
  requestAnimationFrame(() => {
    planned = false;
    writeLink();
    if (frame) writeFrame();
  });
}

function writeFrame() {
  const back = pointed ?? -Number(lookback.value);
  for (const id of SECTIONS) show(byId(id), true);
  show(byId("comparison"), frame.comparisons.length > 0);
  writeTitle();
  writeReadiness(byId("readiness"), frame);
  writeNotices(byId("notices"), frame);
  writeVerdicts(byId("verdicts"), frame);
  writeTotals();
  writeSplit();
  cards.update(frame, history, inks, back);
  writeLookback(back);
  writeComparisons(byId("comparisons"), frame, inks);
  details.update(frame);
  announce();
}

function writeTitle() {
  write(byId("who"), `${frame.hostname} · version ${frame.version} · up ${words.duration(frame.uptime_s)}`);
  const worst = frame.comparisons.find(({ verdict }) => verdict === "worse");
  const state = !frame.ready ? "not ready" : worst ? `${worst.candidate} is worse` : "";
  const title = `${state ? `${state} · ` : ""}sillyproxy ${frame.hostname}`;
  if (document.title !== title) document.title = title;
}

function writeTotals() {
  const { requests_per_s: requests, errors_per_s: errors, inflight, connections, tunnels, retries_per_s: retries } = frame.totals;
  const facts = [
    [words.rate(requests), "requests"],
    [words.rate(errors), "errors"],
    [words.rate(retries), "retries"],
    [words.count(inflight), "under way"],
    [words.count(connections), "client connections"],
    [words.count(tunnels), "tunnels"],
  ];
  sync(byId("totals"), facts, ([, name]) => name, makeFact, (parts, [value]) => write(parts.value, value));
}

function makeFact([, name]) {
  const value = h("b");
  return { node: h("span", { class: "fact" }, value, ` ${name}`), value };
}

function writeSplit() {
  const say = (verb, key) => `${verb}: ${frame.colors.map((color) => `${color.name} ${words.share(color[key])}`).join(", ")}`;
  const parts = (key) => frame.colors.map((color) => ({ name: color.name, part: color[key] ?? 0, text: words.share(color[key]) }));
  askedBar.draw(parts("share_asked"), say("Asked for", "share_asked"), inks);
  seenBar.draw(parts("share_seen"), say("Seen in the last 10 seconds", "share_seen"), inks);
}

function writeLookback(back) {
  const point = history.at(back);
  const when = point ? `${words.clock(point.time)}, ${words.duration(back)} ago` : `${words.duration(back)} ago: nothing known`;
  const text = back ? when : "now";
  write(byId("lookback-words"), text);
  set(lookback, { "aria-valuetext": text });
  write(
    byId("legend"),
    back
      ? "Figures of that moment: percentiles of that one second, rates of the ten seconds before it."
      : `Percentiles: the last ${words.duration(frame.window_s)}. Rates and shares: the last 10 s. Lines: each second of the last 5 min, on one scale for all colors; grey are the other colors, dashed is the share asked for, ↑ a peak above the scale.`,
  );
}

/*
 * A screen reader is told the verdict when it becomes another, and whether the page is live;
 * not each number, each second.
 */
let told = "";
function announce() {
  const verdicts = frame.comparisons.map(({ candidate, verdict }) => `${candidate} ${verdict}`).join();
  const state = `${frame.ready}/${verdicts}`;
  if (state === told || silence) return;
  told = state;
  const ready = frame.ready ? [] : [`Not ready: ${frame.reason}.`];
  write(byId("said"), [...ready, ...frame.comparisons.map(({ text }) => text)].join(" "));
}

function writeLink() {
  const lost = silence > 0;
  const live = frame !== null && !lost;
  set(byId("link"), { "data-tone": lost ? "bad" : live ? "good" : "quiet" });
  const old = frame ? ", showing old data" : "";
  write(byId("link-words"), lost ? `Not connected for ${words.duration(silence)}${old}` : live ? "Live" : "Connecting");
  set(document.documentElement, { "data-link": lost ? "lost" : "live" });
}

const stream = new Stream({
  onHistory({ epoch, points }) {
    history.add(epoch, points);
    draw();
  },
  onFrame({ point, frame: newest }) {
    frame = newest;
    history.add(newest.epoch, point ? [point] : []);
    draw();
  },
  onLink(seconds) {
    if (Boolean(seconds) !== Boolean(silence) && frame) {
      write(byId("said"), seconds ? "Not connected; showing old data." : "Connected again.");
    }
    const changed = Math.floor(seconds) !== Math.floor(silence) || Boolean(seconds) !== Boolean(silence);
    silence = seconds;
    if (changed) draw();
  },
});

const wanted = new URLSearchParams(location.search).get("window");
const initial = WINDOWS.includes(wanted) ? wanted : WINDOWS[0];
for (const choice of document.querySelectorAll("input[name=window]")) {
  choice.checked = choice.value === initial;
  choice.addEventListener("change", () => {
    window.history.replaceState(null, "", choice.value === WINDOWS[0] ? location.pathname : `?window=${choice.value}`);
    stream.open(choice.value);
  });
}
lookback.addEventListener("input", draw);
const recolor = () => {
  inks.forget();
  draw();
};
document.addEventListener("themechange", recolor);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolor);
matchMedia("(prefers-contrast: more)").addEventListener("change", recolor);

stream.open(initial);
