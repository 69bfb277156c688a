/*
 * The connection to the proxy.
 *
 * EventSource comes back by itself and says where it left off. Three things it does not do:
 * tell that a connection is silent though open, try again after an answer such as 401 or
 * 503, and say for how long nothing came.
 */

// Frames come each second. Two missing are no reason for alarm, three are.
const SILENT_MS = 3500;
// So long without a word from an open connection, and it is replaced.
const DEAF_MS = 10_000;
// After an answer that is no stream, the next try is so much later; each time twice as much, as a browser may
// ask for a password each time.
const AGAIN_MS = 2000;
const AGAIN_MOST_MS = 30_000;

export class Stream {
  /** `onHistory` and `onFrame` get what came; `onLink` whether the page is live, and since when not. */
  constructor({ onHistory, onFrame, onLink }) {
    this.handlers = { onHistory, onFrame, onLink };
    this.source = null;
    this.heard = performance.now();
    this.opened = 0;
    this.again = AGAIN_MS;
    setInterval(() => this.check(), 500);
  }

  /** Connect, or connect anew, with the comparison over so many seconds. */
  open(window) {
    this.window = window;
    this.source?.close();
    this.opened = performance.now();
    const source = new EventSource(`/api/events?window=${window}`);
    this.source = source;
    source.addEventListener("history", (event) => this.take(event, this.handlers.onHistory));
    source.addEventListener("frame", (event) => this.take(event, this.handlers.onFrame));
    source.addEventListener("error", () => this.check());
  }

  take(event, handler) {
    if (event.target !== this.source) return;
    this.heard = performance.now();
    this.again = AGAIN_MS;
    handler(JSON.parse(event.data));
    this.handlers.onLink(0);
  }

  check() {
    const now = performance.now();
    const silence = now - this.heard;
    if (silence > SILENT_MS) this.handlers.onLink(silence / 1000);
    if (!this.source) return;
    const tried = now - this.opened;
    const closed = this.source.readyState === EventSource.CLOSED;
    const deaf = this.source.readyState === EventSource.OPEN && silence > DEAF_MS;
    if (closed && tried > this.again) {
      this.again = Math.min(2 * this.again, AGAIN_MOST_MS);
      this.open(this.window);
    } else if (deaf && tried > DEAF_MS) this.open(this.window);
  }
}
