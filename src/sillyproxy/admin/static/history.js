/*
 * The last five minutes, second by second.
 *
 * Points are known by their number. Whatever comes twice, late, or after a gap finds its
 * place, so that a connection that was lost and found again leaves no trace but seconds that
 * nobody can know.
 */

export const SPAN = 300;
// What is called "now" is over so many seconds.
const RECENT = 10;

export class History {
  constructor() {
    this.epoch = null;
    this.points = new Map();
    this.newest = -1;
  }

  /** Take points. Those of another epoch begin anew: its numbers mean other seconds. */
  add(epoch, points) {
    if (epoch !== this.epoch) {
      this.epoch = epoch;
      this.points.clear();
      this.newest = -1;
    }
    for (const point of points) {
      this.points.set(point.seq, point);
      this.newest = Math.max(this.newest, point.seq);
    }
    for (const seq of this.points.keys()) if (seq <= this.newest - SPAN) this.points.delete(seq);
  }

  /** Return the second that is `back` before the newest; undefined if it is not known. */
  at(back) {
    return this.points.get(this.newest - back);
  }

  /** Return how many seconds there are since the oldest that is known. */
  get length() {
    let oldest = this.newest + 1;
    for (const seq of this.points.keys()) oldest = Math.min(oldest, seq);
    return this.newest + 1 - oldest;
  }

  /**
   * Return the lines of a color: for each measure, oldest first, SPAN values; NaN where
   * nothing is known. Rates and shares are over the ten seconds before, as the figures are.
   */
  lines(name) {
    const lines = Object.fromEntries(MEASURES.map((measure) => [measure, new Float64Array(SPAN).fill(NaN)]));
    const recent = new Recent();
    for (let place = -RECENT; place < SPAN; place += 1) {
      const point = this.points.get(this.newest - SPAN + 1 + place);
      recent.push(point, name);
      const color = point?.colors[name];
      if (place < 0 || !color) continue;
      lines.share[place] = recent.all ? recent.requests / recent.all : NaN;
      lines.asked[place] = color.share_asked ?? NaN;
      lines.requests[place] = recent.seconds ? recent.requests / recent.seconds : NaN;
      lines.errors[place] = recent.requests ? recent.errors / recent.requests : NaN;
      lines.inflight[place] = color.inflight ?? NaN;
      for (const measure of ["p50", "p95", "p99"]) lines[measure][place] = color[`${measure}_ms`] ?? NaN;
    }
    return lines;
  }
}

const MEASURES = ["share", "asked", "requests", "errors", "p50", "p95", "p99", "inflight"];

/** Sums over the seconds just before. */
class Recent {
  constructor() {
    this.window = [];
    this.seconds = this.requests = this.errors = this.all = 0;
  }

  push(point, name) {
    const color = point?.colors[name];
    const all = Object.values(point?.colors ?? {}).reduce((sum, other) => sum + other.requests, 0);
    const second = { seconds: point ? 1 : 0, requests: color?.requests ?? 0, errors: color?.errors ?? 0, all };
    this.window.push(second);
    this.add(second, 1);
    if (this.window.length > RECENT) this.add(this.window.shift(), -1);
  }

  add(second, sign) {
    for (const key of ["seconds", "requests", "errors", "all"]) this[key] += sign * second[key];
  }
}
