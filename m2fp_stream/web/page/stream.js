// The line to the server: one WebSocket, opened again whenever it ends.

import { ServerClock } from "./clock.js";

const HEAD_BYTES = 24;
const VERSION = 1;
const COVERED_BIT = 1;
const MIRRORED_BIT = 2;

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 5000;

/** The server says something once a second at least. */
const SILENT_MS = 5000;

/** What the path of a frame may take longer than the quickest frame of this connection did. */
const LATE_MS = 1000;

/** The server is asked for its time so often, and more often in the beginning. */
const ASK_MS = 2000;
const FIRST_ASKS_MS = [0, 200, 500];

/** Of every third frame it is said that it was taken: the server sends a few without being told. */
const SAY_EACH = 3;

/** One word that somebody is there says enough for so long. */
const AWAKE_EVERY_MS = 1000;

/** Frames that are late for so long do not catch up: a new connection has no queue. */
const LATE_FOR_MS = 3000;

/**
 * Reads one binary message.
 *
 * Returns null where it is none, else `{covered, mirrored, sequence, ageMs, handedMs, jpeg}`: whether
 * all is covered, whether left and right are swapped, the frame's number, milliseconds from capture
 * to its being handed over, Unix time in milliseconds of that, and its bytes.
 */
export function readFrame(buffer) {
  if (!(buffer instanceof ArrayBuffer) || buffer.byteLength <= HEAD_BYTES) return null;
  const head = new DataView(buffer, 0, HEAD_BYTES);
  if (head.getUint8(0) !== VERSION) return null;
  const ageMs = head.getFloat64(8, true) * 1000;
  const handedMs = head.getFloat64(16, true);
  if (!Number.isFinite(ageMs) || !Number.isFinite(handedMs)) return null;
  return {
    covered: (head.getUint8(1) & COVERED_BIT) !== 0,
    mirrored: (head.getUint8(1) & MIRRORED_BIT) !== 0,
    sequence: head.getUint32(4, true),
    ageMs,
    handedMs,
    jpeg: new Uint8Array(buffer, HEAD_BYTES),
  };
}

/**
 * Judges whether frames come late. The two computers' clocks may differ, and a delay is part of how
 * the picture is made, so that each frame is compared with the quickest of its connection.
 */
export class Lateness {
  #quickest = Infinity;
  #youngest = Infinity;

  /** Returns whether a frame took too long, or was too old when it was sent. */
  late(frame, nowMs = Date.now()) {
    const tookMs = nowMs - frame.handedMs;
    this.#quickest = Math.min(this.#quickest, tookMs);
    if (tookMs - this.#quickest > LATE_MS) return true;
    if (frame.covered) return false; // a card needs no delay, so that it says nothing of others
    this.#youngest = Math.min(this.#youngest, frame.ageMs);
    return frame.ageMs - this.#youngest > LATE_MS;
  }
}

/**
 * Keeps a stream open for as long as the page lives.
 *
 * `onStatus(status)` gets every status, `onFrame(frame)` every frame in time, and
 * `onLine("open" | "offline" | "locked")` what became of the connection.
 */
export class Stream {
  #on;
  #socket = null;
  #pauseMs = FIRST_PAUSE_MS;
  #heardMs = 0;
  #awakeMs = -Infinity;
  #size = "";
  #got = 0;

  /** The server's clock. */
  clock = new ServerClock();

  constructor({ onStatus, onFrame, onLine }) {
    this.#on = { onStatus, onFrame, onLine };
    this.#open();
    setInterval(() => this.#watch(), 1000);
    setInterval(() => this.#askTime(), ASK_MS);
  }

  /** Tells the server which box, in the display's pixels, the picture fills. */
  fills(width, height) {
    const [w, h] = [width, height].map((side) => Math.min(Math.round(side), 9999));
    if (w < 1 || h < 1 || this.#size === `size ${w}x${h}`) return;
    this.#size = `size ${w}x${h}`;
    this.#say(this.#size);
  }

  /** Tells the server that a frame was taken, and whatever came before it. */
  took(sequence) {
    if (sequence - this.#got >= 0 && sequence - this.#got < SAY_EACH) return;
    this.#got = sequence;
    this.#say(`got ${sequence}`);
  }

  #say(words) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(words);
  }

  #askTime() {
    this.#say(`time ${Math.round(performance.now() * 1000)}`);
  }

  /** Tells the server that somebody touched the page, so that it does not sleep. */
  awake() {
    const nowMs = performance.now();
    if (this.#socket?.readyState !== WebSocket.OPEN || nowMs - this.#awakeMs < AWAKE_EVERY_MS) return;
    this.#awakeMs = nowMs;
    this.#say("awake");
  }

  #open() {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/stream`);
    socket.binaryType = "arraybuffer";
    this.#socket = socket;
    this.#heardMs = performance.now();
    let opened = false;
    let lateSinceMs = null;
    const lateness = new Lateness();
    socket.onopen = () => {
      opened = true;
      this.clock.reset();
      this.#got = 0;
      if (this.#size) this.#say(this.#size);
      for (const ms of FIRST_ASKS_MS) setTimeout(() => socket === this.#socket && this.#askTime(), ms);
      this.#on.onLine("open");
    };
    socket.onmessage = ({ data }) => {
      if (socket !== this.#socket) return;
      this.#heardMs = performance.now();
      this.#pauseMs = FIRST_PAUSE_MS;
      if (typeof data === "string") {
        const said = parsed(data);
        if (Number.isFinite(said?.now_ms) && Number.isFinite(said.time)) {
          this.clock.answered(said.now_ms, said.time / 1000, this.#heardMs);
        } else if (typeof said?.state === "string") this.#on.onStatus(said);
        return;
      }
      const frame = readFrame(data);
      if (frame === null) return;
      if (!lateness.late(frame)) {
        lateSinceMs = null;
        this.#on.onFrame(frame);
        return;
      }
      this.took(frame.sequence);
      lateSinceMs ??= this.#heardMs;
      if (this.#heardMs - lateSinceMs > LATE_FOR_MS) this.#again(socket);
    };
    socket.onclose = () => {
      if (socket === this.#socket) this.#closed(opened);
    };
  }

  async #closed(opened) {
    this.#socket = null;
    this.#on.onLine("offline");
    const pauseMs = this.#pauseMs * (0.75 + 0.5 * Math.random());
    this.#pauseMs = Math.min(2 * this.#pauseMs, LONGEST_PAUSE_MS);
    // A WebSocket does not say why it was refused; a request does.
    if (!opened && (await refused())) this.#on.onLine("locked");
    setTimeout(() => this.#open(), pauseMs);
  }

  #watch() {
    if (this.#socket !== null && performance.now() - this.#heardMs > SILENT_MS) {
      this.#again(this.#socket);
    }
  }

  #again(socket) {
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
    this.#closed(true);
  }
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

async function refused() {
  try {
    const answer = await fetch("/api/status", {
      cache: "no-store",
      signal: AbortSignal.timeout(3000),
    });
    return answer.status === 401 || answer.status === 403;
  } catch {
    return false;
  }
}
