/* A WebSocket client for one server that sends and never has to be answered (RFC 6455).
 *
 * Written out because the one of Node's own cannot be given a certificate, and because a module
 * without dependencies needs no installation. `ws` lies in MagicMirror's node_modules, but by chance:
 * nobody there asks for it but socket.io and pm2, and which of their two versions (8, or pm2's 7) a module
 * finds depends on how npm laid them out.
 */
"use strict";

const crypto = require("node:crypto");
const http = require("node:http");
const https = require("node:https");

/** Source: RFC 6455, section 1.3. */
const MAGIC = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const [CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG] = [0, 1, 2, 8, 9, 10];
/** The largest JPEG of m2fp-stream is 4 MiB. */
const LARGEST_BYTES = 5 * 1024 * 1024;
const CONNECT_MS = 5000;

/** Splits what comes over the wire into messages; throws where it is against the rules. */
class Messages {
  constructor() {
    this.chunks = [];
    this.length = 0;
    this.kind = null;
    this.parts = [];
    this.partsLength = 0;
  }

  /** Returns the messages that `chunk` completes, as {opcode, data}. */
  push(chunk) {
    this.chunks.push(chunk);
    this.length += chunk.length;
    const complete = [];
    for (let frame = this.next(); frame !== null; frame = this.next()) {
      if (frame.opcode >= CLOSE) {
        complete.push(frame);
        continue;
      }
      if ((frame.opcode === CONTINUATION) === (this.kind === null)) throw new Error("out of order");
      if (frame.opcode !== CONTINUATION) this.kind = frame.opcode;
      this.parts.push(frame.data);
      this.partsLength += frame.data.length;
      if (this.partsLength > LARGEST_BYTES) throw new Error("too large");
      if (frame.last) {
        complete.push({ opcode: this.kind, data: Buffer.concat(this.parts) });
        [this.kind, this.parts, this.partsLength] = [null, [], 0];
      }
    }
    return complete;
  }

  next() {
    if (this.length < 2) return null;
    // The head alone, first: joining everything with each chunk would copy a picture many times.
    const head = this.peek(10);
    const length = head[1] & 0x7f;
    if ((head[0] & 0x70) !== 0 || (head[1] & 0x80) !== 0) throw new Error("not as agreed");
    let [begin, size] = [2, length];
    if (length === 126) {
      if (head.length < 4) return null;
      [begin, size] = [4, head.readUInt16BE(2)];
    } else if (length === 127) {
      if (head.length < 10) return null;
      [begin, size] = [10, Number(head.readBigUInt64BE(2))];
    }
    if (size > LARGEST_BYTES) throw new Error("too large");
    if (this.length < begin + size) return null;
    const all = this.chunks.length === 1 ? this.chunks[0] : Buffer.concat(this.chunks);
    const rest = all.subarray(begin + size);
    this.chunks = rest.length ? [rest] : [];
    this.length = rest.length;
    const last = (head[0] & 0x80) !== 0;
    const opcode = head[0] & 0x0f;
    if (opcode > PONG || (opcode > BINARY && opcode < CLOSE)) throw new Error("unknown");
    if (opcode >= CLOSE && (!last || size > 125)) throw new Error("not as agreed");
    return { opcode, last, data: all.subarray(begin, begin + size) };
  }

  peek(count) {
    const [first] = this.chunks;
    return first.length >= count || this.chunks.length === 1
      ? first.subarray(0, count)
      : Buffer.concat(this.chunks).subarray(0, count);
  }
}

/** One frame from client to server, masked as section 5.3 wants it. */
function maskedFrame(opcode, data) {
  const mask = crypto.randomBytes(4);
  const body = Buffer.from(data.map((byte, index) => byte ^ mask[index % 4]));
  return Buffer.concat([Buffer.from([0x80 | opcode, 0x80 | body.length]), mask, body]);
}

/** Connects; calls `onText(string)`, `onBinary(Buffer)` and, once, `onEnd(status or null)`.
 *
 * `onEnd` gets the HTTP status of a refused connection. Returns a function that disconnects at
 * once, after which nothing is called any more.
 */
function connect({ url, headers, ca, silenceMs, onText, onBinary, onEnd }) {
  const key = crypto.randomBytes(16).toString("base64");
  let socket = null;
  let ended = false;
  const end = (status) => {
    if (ended) return;
    ended = true;
    request.destroy();
    socket?.destroy();
    onEnd(status);
  };
  const request = (url.protocol === "https:" ? https : http).request(url, {
    agent: false,
    ca,
    timeout: CONNECT_MS,
    headers: {
      ...headers,
      Connection: "Upgrade",
      Upgrade: "websocket",
      "Sec-WebSocket-Version": "13",
      "Sec-WebSocket-Key": key,
    },
  });
  request.on("timeout", () => end(null));
  request.on("error", () => end(null));
  request.on("response", (response) => end(response.statusCode ?? null));
  request.on("upgrade", (response, upgraded, first) => {
    const expected = crypto.createHash("sha1").update(key + MAGIC).digest("base64");
    if (response.headers["sec-websocket-accept"] !== expected || ended) {
      upgraded.destroy();
      end(null);
      return;
    }
    socket = upgraded;
    const messages = new Messages();
    const take = (chunk) => {
      try {
        for (const { opcode, data } of messages.push(chunk)) {
          if (ended) return;
          if (opcode === TEXT) onText(data.toString("utf8"));
          else if (opcode === BINARY) onBinary(data);
          else if (opcode === PING) socket.write(maskedFrame(PONG, data));
          else if (opcode === CLOSE) end(null);
        }
      } catch {
        end(null);
      }
    };
    socket.setTimeout(silenceMs, () => end(null));
    socket.on("error", () => end(null));
    socket.on("close", () => end(null));
    socket.on("data", take);
    if (first.length) take(first);
  });
  request.end();
  return () => {
    ended = true;
    request.destroy();
    socket?.destroy();
  };
}

module.exports = { Messages, connect };
