/* The browsers that show the picture: each gets the newest frame, none an old one. */
"use strict";

const crypto = require("node:crypto");

const MOST_VIEWERS = 8;
/** A viewer that takes nothing for so long is disconnected. */
const STUCK_MS = 10_000;
/** A frame that has waited so long for its viewer is not sent any more. */
const OLD_MS = 500;

class Viewers {
  /** `onCount` is called with the number of viewers whenever it changes. */
  constructor(onCount) {
    this.onCount = onCount;
    this.open = new Map();
    this.boundary = `m2fp-${crypto.randomBytes(12).toString("hex")}`;
  }

  get count() {
    return this.open.size;
  }

  /** Answers an Express request with the stream, until either side ends it. */
  add(response) {
    // MagicMirror says "any origin" for everything; a picture of a room is for its own page only.
    response.removeHeader("Access-Control-Allow-Origin");
    if (this.open.size >= MOST_VIEWERS) {
      response.status(503).json({ error: "too many viewers" });
      return;
    }
    response.writeHead(200, {
      "Content-Type": `multipart/x-mixed-replace; boundary=${this.boundary}`,
      "Cache-Control": "no-store",
      "Cross-Origin-Resource-Policy": "same-origin",
      "X-Content-Type-Options": "nosniff",
      "X-Frame-Options": "DENY",
    });
    response.flushHeaders();
    const viewer = { busySince: null, waiting: null };
    this.open.set(response, viewer);
    response.on("drain", () => {
      viewer.busySince = null;
      const { waiting } = viewer;
      viewer.waiting = null;
      if (waiting !== null && Date.now() - waiting.at < OLD_MS) this.send(response, viewer, waiting.part);
    });
    response.on("error", () => response.destroy());
    response.on("close", () => {
      this.open.delete(response);
      this.onCount(this.open.size);
    });
    this.onCount(this.open.size);
  }

  /** Hands one frame to every viewer; it replaces one that still waits. */
  frame(jpeg, covered) {
    const head = [
      `--${this.boundary}`,
      "Content-Type: image/jpeg",
      `Content-Length: ${jpeg.length}`,
      `X-Covered: ${covered ? 1 : 0}`,
    ].join("\r\n");
    const part = Buffer.concat([Buffer.from(`${head}\r\n\r\n`), jpeg, Buffer.from("\r\n")]);
    const now = Date.now();
    for (const [response, viewer] of this.open) {
      if (viewer.busySince === null) {
        this.send(response, viewer, part);
      } else if (now - viewer.busySince > STUCK_MS) {
        response.destroy();
      } else {
        viewer.waiting = { part, at: now };
      }
    }
  }

  send(response, viewer, part) {
    if (!response.write(part)) viewer.busySince = Date.now();
  }

  close() {
    for (const response of this.open.keys()) response.destroy();
  }
}

module.exports = { Viewers };
