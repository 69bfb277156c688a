/*
 * Which color a color is drawn in.
 *
 * A color whose name is one that CSS knows is drawn in it, made darker or lighter until it
 * is legible on the ground (WCAG: text needs 4.5 to 1); any other gets one from a list. The
 * name always stands beside it: nothing is told by color alone.
 */

const CONTRAST = 4.6;
const OTHERS = ["#8250df", "#c2410c", "#0e7490", "#be185d", "#4d7c0f", "#92400e", "#475569"];
// What the plain names give is harsh; these are the same colors, softer. On purpose not a theme's.
const SOFTER = { blue: "#2563eb", green: "#15803d", red: "#dc2626", yellow: "#ca8a04", orange: "#ea580c", purple: "#9333ea" };

const canvas = document.createElement("canvas").getContext("2d");

/** Return red, green and blue (0 to 255) of a color that CSS knows by name; null if it does not. */
function read(name) {
  if (!/^[a-z]+$/.test(name)) return null;
  // What is not understood leaves the fill as it was: two different ones before tell.
  const seen = ["#000000", "#ffffff"].map((before) => {
    canvas.fillStyle = before;
    canvas.fillStyle = name;
    return canvas.fillStyle;
  });
  return seen[0] === seen[1] && seen[0].startsWith("#") ? parse(seen[0]) : null;
}

function parse(hex) {
  return [1, 3, 5].map((place) => parseInt(hex.slice(place, place + 2), 16));
}

function luminance(rgb) {
  const [r, g, b] = rgb.map((value) => {
    const part = value / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

/** Return the contrast of two colors, 1 to 21 (WCAG 2.2). */
export function contrast(one, other) {
  const [high, low] = [luminance(one), luminance(other)].sort((a, b) => b - a);
  return (high + 0.05) / (low + 0.05);
}

function mix(rgb, target, part) {
  return rgb.map((value, place) => Math.round(value + (target[place] - value) * part));
}

/** Return `rgb` moved towards black or white until it is legible on `ground`. */
export function legible(rgb, ground) {
  const target = luminance(ground) > 0.4 ? [0, 0, 0] : [255, 255, 255];
  for (let part = 0; part < 1; part += 0.04) {
    const mixed = mix(rgb, target, part);
    if (contrast(mixed, ground) >= CONTRAST) return mixed;
  }
  return target;
}

/** Inks for colors, in their order, on the ground the page has now. */
export class Inks {
  constructor() {
    this.forget();
  }

  /** Choose anew: the ground has changed. */
  forget() {
    const ground = getComputedStyle(document.querySelector(".section")).backgroundColor;
    this.ground = ground.match(/\d+/g).slice(0, 3).map(Number);
    this.chosen = new Map();
  }

  /** Return `{ink, on}` of a color: what it is drawn in, and what is legible upon that. */
  of(name) {
    const known = this.chosen.get(name);
    if (known) return known;
    const plain = Object.hasOwn(SOFTER, name) ? parse(SOFTER[name]) : read(name);
    const unnamed = [...this.chosen.values()].filter((entry) => !entry.named).length;
    const rgb = legible(plain ?? parse(OTHERS[unnamed % OTHERS.length]), this.ground);
    const on = contrast(rgb, [255, 255, 255]) >= 4.5 ? "#ffffff" : "#0b0e13";
    const entry = { ink: `rgb(${rgb.join(" ")})`, on, named: plain !== null };
    this.chosen.set(name, entry);
    return entry;
  }

  /** Give an element the ink of a color. */
  dip(node, name) {
    const { ink, on } = this.of(name);
    if (node.style.getPropertyValue("--ink") === ink) return;
    node.style.setProperty("--ink", ink);
    node.style.setProperty("--on-ink", on);
  }
}
