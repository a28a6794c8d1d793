/* The one connection to m2fp-stream's page: frames and status in, requests out. */
"use strict";

const http = require("node:http");
const https = require("node:https");

const { isLoopback } = require("./settings");
const { connect } = require("./websocket");

/** The status comes at least once a second; a server that says nothing for so long hangs. */
const SILENCE_MS = 3000;
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 5000;
/** After a refusal: the server turns away who names a wrong token ten times a minute. */
const REFUSED_WAIT_MS = 10_000;
const ASK_MS = 1000;
const ANSWER_MS = 3000;
const LARGEST_ANSWER_BYTES = 64 * 1024;
/** A frame handed over longer ago is not shown any more. */
const OLD_MS = 1000;
/** version, flags, reserved, sequence, age, time of hand-over; then the JPEG. */
const HEAD_BYTES = 24;
const COVERED = 1;

const LEVELS = ["parts", "person", "frame"];

/** What of a status goes to browsers; null where it is none. */
function checkedStatus(value) {
  if (value === null || typeof value !== "object") return null;
  if (!["live", "card", "away", "starting"].includes(value.state)) return null;
  if (!LEVELS.includes(value.level)) return null;
  const text = (what) => (typeof what === "string" && what.length <= 200 ? what : null);
  const stale = value.options?.stale_s;
  return {
    state: value.state,
    why: text(value.why),
    level: value.level,
    silhouette: value.silhouette === true,
    floor: LEVELS.includes(value.floor) ? value.floor : null,
    hide: text(value.hide),
    person: typeof value.person === "boolean" ? value.person : null,
    // What is not said to be false counts as true: "nothing is stored" is a promise.
    stored: value.stored !== false,
    staleMs: typeof stale === "number" && stale > 0 && stale <= 2 ? stale * 1000 : 1000,
  };
}

/** Returns {level, silhouette} as the server takes it, or null where `value` is none. */
function checkedRequest(value) {
  if (value === null || typeof value !== "object" || !LEVELS.includes(value.level)) return null;
  if (value.silhouette !== undefined && typeof value.silhouette !== "boolean") return null;
  return { level: value.level, silhouette: value.silhouette === true };
}

class Upstream {
  /** Calls `onFrame(jpeg, covered)`, `onStatus(status)` and `onGone("off" or "refused")`. */
  constructor(settings, { onFrame, onStatus, onGone }) {
    Object.assign(this, { settings, onFrame, onStatus, onGone });
    this.disconnect = null;
    this.retry = null;
    this.wait = FIRST_WAIT_MS;
    this.wanted = false;
    this.asking = null;
    this.refusedUntil = 0;
    this.privacyRequest = null;
    this.sending = null;
  }

  /** Pulls the picture (true) or not. */
  stream(wanted) {
    if (wanted === this.wanted) return;
    this.wanted = wanted;
    clearTimeout(this.retry);
    this.retry = null;
    if (wanted) {
      this.wait = FIRST_WAIT_MS;
      this.open();
    } else {
      this.disconnect?.();
      this.disconnect = null;
    }
  }

  get streaming() {
    return this.disconnect !== null;
  }

  headers() {
    return { Authorization: `Bearer ${this.settings.token}` };
  }

  address(path) {
    const url = new URL(this.settings.url);
    url.pathname = url.pathname.replace(/\/+$/, "") + path;
    return url;
  }

  open() {
    this.disconnect = connect({
      url: this.address("/stream"),
      headers: this.headers(),
      ca: this.settings.ca,
      silenceMs: SILENCE_MS,
      onText: (text) => this.status(text),
      onBinary: (data) => this.frame(data),
      onEnd: (status) => {
        this.disconnect = null;
        this.gone(status);
        const refused = [401, 403, 429].includes(status);
        const wait = refused ? REFUSED_WAIT_MS : this.wait * (0.75 + Math.random() / 2);
        this.wait = Math.min(this.wait * 2, LONGEST_WAIT_MS);
        this.retry = setTimeout(() => this.open(), wait);
      },
    });
  }

  gone(status) {
    const refused = [401, 403, 429].includes(status);
    if (refused) this.refusedUntil = Date.now() + REFUSED_WAIT_MS;
    this.onGone(refused ? "refused" : "off");
  }

  status(text) {
    let status;
    try {
      status = checkedStatus(JSON.parse(text));
    } catch {
      status = null;
    }
    if (status === null) return;
    this.onStatus(status);
    if (this.privacyRequest !== null && this.privacyRequest !== this.sending) this.sendPrivacy();
  }

  frame(data) {
    if (data.length <= HEAD_BYTES || data[0] !== 1) return;
    const handedMs = data.readDoubleLE(16);
    // Clocks of two computers differ; of one they do not.
    if (isLoopback(this.settings.url.hostname) && !(Date.now() - handedMs < OLD_MS)) return;
    this.wait = FIRST_WAIT_MS;
    this.onFrame(data.subarray(HEAD_BYTES), (data[1] & COVERED) !== 0);
  }

  /** Asks for the status once, unless it is being asked for, or comes with the picture. */
  ask() {
    if (this.asking !== null || this.wanted || Date.now() < this.refusedUntil) return;
    this.asking = this.request("GET", "/api/status", null, (status, text) => {
      this.asking = null;
      if (this.wanted) return;
      if (status === 200) this.status(text);
      else this.gone(status);
    });
  }

  /** Sends a request; one to hide everything is said again until it is heard. */
  privacy(requested) {
    this.privacyRequest = requested;
    this.sendPrivacy();
  }

  sendPrivacy() {
    const { privacyRequest: requested } = this;
    this.sending = requested;
    this.request("POST", "/api/privacy", JSON.stringify(requested), (status, text) => {
      if (this.sending === requested) this.sending = null;
      const isDone = status === 200 || requested.level !== "frame";
      if (this.privacyRequest === requested && isDone) this.privacyRequest = null;
      if (status === 200) this.status(text);
    });
  }

  /** One request; `done` gets (status or null, text), exactly once. */
  request(method, path, body, done) {
    let finished = false;
    const finish = (status, text) => {
      if (finished) return;
      finished = true;
      clearTimeout(limit);
      request.destroy();
      done(status, text);
    };
    const url = this.address(path);
    const request = (url.protocol === "https:" ? https : http).request(url, {
      method,
      agent: false,
      ca: this.settings.ca,
      headers: {
        ...this.headers(),
        ...(body === null
          ? {}
          : { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(body) }),
      },
    });
    const limit = setTimeout(() => finish(null, ""), ANSWER_MS);
    request.on("error", () => finish(null, ""));
    request.on("response", (response) => {
      const chunks = [];
      let length = 0;
      response.on("error", () => finish(null, ""));
      response.on("data", (chunk) => {
        length += chunk.length;
        if (length > LARGEST_ANSWER_BYTES) finish(null, "");
        else chunks.push(chunk);
      });
      response.on("close", () => finish(null, ""));
      response.on("end", () => finish(response.statusCode, Buffer.concat(chunks).toString("utf8")));
    });
    request.end(body);
    return request;
  }

  close() {
    this.stream(false);
    this.asking?.destroy();
  }
}

module.exports = { ASK_MS, Upstream, checkedStatus, checkedRequest };
