/*
 * Numbers as people read them: with units, in few digits, always as wide.
 *
 * What was not counted is a dash, never a zero.
 */

export const NONE = "–";
const NBSP = "\u00a0";
const MINUS = "\u2212";
const whole = new Intl.NumberFormat("en-GB", { maximumFractionDigits: 0 });

const missing = (value) => value === null || value === undefined || Number.isNaN(value);

/** A whole number, in groups of three digits. */
export function count(value) {
  return missing(value) ? NONE : whole.format(value);
}

/** A share (0 to 1) as a percentage. */
export function share(value) {
  if (missing(value)) return NONE;
  return `${digits(value * 100)}${NBSP}%`;
}

function digits(percent) {
  if (percent === 0 || percent === 100) return percent.toFixed(0);
  if (percent < 0.01) return "<0.01";
  if (percent < 1) return percent.toFixed(2);
  return percent > 99.95 ? ">99.9" : percent.toFixed(1);
}

/** A rate: so many a second. */
export function rate(value) {
  if (missing(value)) return NONE;
  return `${value >= 1000 ? whole.format(value) : value.toFixed(1)}${NBSP}/s`;
}

/** A time in milliseconds, in three digits or so. */
export function milliseconds(value) {
  if (missing(value)) return NONE;
  const size = Math.abs(value);
  if (size >= 9999.5) return `${(value / 1000).toFixed(1)}${NBSP}s`;
  if (size >= 999.5) return `${(value / 1000).toFixed(2)}${NBSP}s`;
  if (size >= 99.95) return `${value.toFixed(0)}${NBSP}ms`;
  return `${value.toFixed(size >= 9.995 ? 1 : 2)}${NBSP}ms`;
}

/** A difference with its sign; of shares in percentage points. */
export function difference(value, unit) {
  if (missing(value)) return NONE;
  const text = magnitude(Math.abs(value), unit);
  return `${value < 0 ? MINUS : "+"}${text}`;
}

function magnitude(size, unit) {
  return unit === "share" ? `${(size * 100).toFixed(size < 0.1 ? 2 : 1)}${NBSP}points` : milliseconds(size);
}

/** An interval of differences: from, to. */
export function interval(low, high, unit) {
  if (missing(low) && missing(high)) return NONE;
  if (missing(high)) return `${difference(low, unit)} or more`;
  if (missing(low)) return `${difference(high, unit)} or less`;
  const [one, other] = [difference(low, unit), difference(high, unit)];
  const same = one.split(NBSP)[1] === other.split(NBSP)[1];
  return `${same ? one.split(NBSP)[0] : one} to ${other}`;
}

/** How far a scale reaches, in as few digits as it takes: `text` is how its values are written. */
export function scale(most, text) {
  return `0${NBSP}–${NBSP}${text(most).replace(/(\.\d*?)0+(?=\D|$)/, "$1").replace(/\.(?=\D)/, "")}`;
}

/** A measured value in its unit. */
export function measured(value, unit) {
  return unit === "share" ? share(value) : milliseconds(value);
}

/** Bytes, in binary units. */
export function bytes(value) {
  if (missing(value)) return NONE;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let size = value;
  let unit = 0;
  while (size >= 1024 && unit < units.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? size : size.toFixed(1)}${NBSP}${units[unit]}`;
}

/** A duration in seconds, in its two largest units. */
export function duration(seconds) {
  if (missing(seconds)) return NONE;
  const left = Math.max(0, Math.round(seconds));
  const steps = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  const first = steps.findIndex(([, size]) => left >= size);
  if (first < 0) return `0${NBSP}s`;
  const [unit, size] = steps[first];
  const text = `${Math.floor(left / size)}${NBSP}${unit}`;
  const rest = first + 1 < steps.length ? Math.floor((left % size) / steps[first + 1][1]) : 0;
  return rest ? `${text}${NBSP}${rest}${NBSP}${steps[first + 1][0]}` : text;
}

/** A time of day, with the day if it is not today. */
export function clock(seconds) {
  const date = new Date(seconds * 1000);
  const time = date.toLocaleTimeString("en-GB");
  const isToday = date.toDateString() === new Date().toDateString();
  const day = isToday ? "" : `${date.toLocaleDateString("en-GB", { day: "numeric", month: "short" })}, `;
  return day + time;
}

/** A weight: as short as it can be written. */
export function weight(value) {
  return missing(value) ? NONE : String(Number(value.toFixed(4)));
}

/** `1 worker`, `2 workers`. */
export function several(number, one, many = `${one}s`) {
  return `${count(number)}${NBSP}${number === 1 ? one : many}`;
}
