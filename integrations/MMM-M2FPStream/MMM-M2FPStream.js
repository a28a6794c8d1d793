/* global Log, Module, config */

/* MMM-M2FPStream: the covered camera picture of m2fp-stream on a MagicMirror.
 *
 * The picture is read from our node_helper with fetch() and drawn to a canvas. An <img> with the
 * same stream would keep its last picture when frames stop, and nothing in the page could tell; a
 * canvas is emptied by the very clock that says when the last frame was drawn.
 */

/** A picture older than this gives way to the card, which so comes within a second. */
const M2FP_STALE_MS = 800;
/** How often it is looked whether the picture is still fresh. */
const M2FP_CHECK_MS = 100;
/** node_helper says how things are once a second; after so long without a word it is gone. */
const M2FP_SILENCE_MS = 3000;
const M2FP_FIRST_WAIT_MS = 500;
const M2FP_LONGEST_WAIT_MS = 5000;
const M2FP_LARGEST_BYTES = 6 * 1024 * 1024;
const M2FP_LEVELS = ["parts", "person", "frame"];
const M2FP_PRESETS = ["face", "head", "skin", "person"];

/** Splits a multipart stream, as node_helper writes it, into pictures. */
class M2FPParts {
  constructor() {
    this.bytes = new Uint8Array(0);
    this.length = null;
    this.covered = true;
  }

  /** Returns the pictures that `chunk` completes, as {jpeg, covered}; throws at nonsense. */
  push(chunk) {
    const joined = new Uint8Array(this.bytes.length + chunk.length);
    joined.set(this.bytes);
    joined.set(chunk, this.bytes.length);
    this.bytes = joined;
    if (this.bytes.length > M2FP_LARGEST_BYTES) throw new Error("too large");
    const complete = [];
    for (;;) {
      if (this.length === null && !this.readHead()) return complete;
      if (this.bytes.length < this.length + 2) return complete;
      complete.push({ jpeg: this.bytes.slice(0, this.length), covered: this.covered });
      this.bytes = this.bytes.subarray(this.length + 2);
      this.length = null;
    }
  }

  readHead() {
    const most = Math.min(this.bytes.length, 1024);
    let end = 0;
    const ends = (at) => [13, 10, 13, 10].every((byte, index) => this.bytes[at + index] === byte);
    while (end + 4 <= most && !ends(end)) end += 1;
    if (end + 4 > most) {
      if (most === 1024) throw new Error("no head");
      return false;
    }
    const head = new TextDecoder().decode(this.bytes.subarray(0, end));
    const length = /^Content-Length: (\d{1,7})$/m.exec(head.replaceAll("\r", ""));
    if (length === null) throw new Error("no length");
    this.length = Number(length[1]);
    this.covered = !/^X-Covered: 0$/m.test(head.replaceAll("\r", ""));
    this.bytes = this.bytes.subarray(end + 4);
    return true;
  }
}

Module.register("MMM-M2FPStream", {
  requiresVersion: "2.20.0",

  defaults: {
    width: "400px",
    mirror: true,
    stateLine: true,
    presence: true,
    // url, tokenFile, certificate and names are read by node_helper alone.
  },

  start() {
    Log.info(`Starting module: ${this.name}`);
    this.root = null;
    this.paused = false;
    this.state = { connection: "off", problem: null, status: null };
    this.heardMs = performance.now();
    this.drawnMs = -Infinity;
    this.allHidden = false;
    this.person = null;
    this.everybody = false;
    this.generation = 0;
    this.abort = null;
    this.waiting = null;
    this.decoding = false;
    this.shown = "";
    this.timer = setInterval(() => this.refresh(), M2FP_CHECK_MS);
    document.addEventListener("visibilitychange", () => this.refresh());
    this.sendSocketNotification("HELLO", {}); // opens the socket
    this.pull();
  },

  getStyles() {
    return ["MMM-M2FPStream.css"];
  },

  getTranslations() {
    return { en: "translations/en.json", "zh-cn": "translations/zh-cn.json" };
  },

  /** Always the same element: MagicMirror may ask again, the picture goes on. */
  getDom() {
    if (this.root === null) this.build();
    this.refresh();
    return this.root;
  },

  build() {
    const make = (kind, name, parent) => {
      const element = document.createElement(kind);
      element.className = `m2fp-${name}`;
      parent?.append(element);
      return element;
    };
    this.root = make("div", "stream", null);
    const { width } = this.config;
    this.root.style.width = typeof width === "number" ? `${width}px` : String(width);
    this.stage = make("div", "stage", this.root);
    this.canvas = make("canvas", "picture", this.stage);
    this.canvas.classList.toggle("m2fp-mirrored", this.config.mirror !== false);
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", this.translate("PICTURE"));
    this.canvas.hidden = true;
    this.card = make("div", "card", this.stage);
    make("div", "shape", this.card).setAttribute("aria-hidden", "true");
    this.sentence = make("div", "sentence", this.card);
    this.sentence.setAttribute("role", "status");
    this.line = make("div", "line", this.root);
    this.line.hidden = this.config.stateLine === false;
  },

  /** Hidden by MagicMirror: the picture is no longer pulled, from nobody up to the camera. */
  suspend() {
    this.paused = true;
    this.generation += 1;
    this.abort?.abort();
    this.clear();
  },

  resume() {
    if (!this.paused) return;
    this.paused = false;
    this.pull();
  },

  /** Reads the stream until `suspend`; connects again where it ends. */
  async pull() {
    this.generation += 1;
    const mine = this.generation;
    const base = typeof config === "object" && config.basePath ? config.basePath : "/";
    const address = `${base}${this.name}/stream`;
    let wait = M2FP_FIRST_WAIT_MS;
    while (mine === this.generation) {
      this.abort = new AbortController();
      try {
        const response = await fetch(address, { signal: this.abort.signal, cache: "no-store" });
        if (!response.ok) throw new Error(String(response.status));
        const reader = response.body.getReader();
        const parts = new M2FPParts();
        for (let more = await reader.read(); !more.done; more = await reader.read()) {
          for (const part of parts.push(more.value)) {
            wait = M2FP_FIRST_WAIT_MS;
            if (mine === this.generation) this.take(part);
          }
        }
      } catch {
        // Whatever it was: the card is shown meanwhile, and it is tried again.
      }
      this.abort.abort(); // where the stream made no sense, it is still open
      await new Promise((resolve) => setTimeout(resolve, wait * (0.75 + Math.random() / 2)));
      wait = Math.min(wait * 2, M2FP_LONGEST_WAIT_MS);
    }
  },

  /** The newest picture; at most one is decoded, and one waits. */
  take(part) {
    if (part.covered) {
      // The card of m2fp-stream itself: ours says the same in words.
      this.waiting = null;
      this.clear();
      return;
    }
    this.waiting = { blob: new Blob([part.jpeg], { type: "image/jpeg" }), atMs: performance.now() };
    if (!this.decoding) this.decode();
  },

  async decode() {
    this.decoding = true;
    while (this.waiting !== null) {
      const { blob, atMs } = this.waiting;
      this.waiting = null;
      const { generation } = this;
      try {
        const bitmap = await createImageBitmap(blob);
        const late = performance.now() - atMs > this.staleMs();
        if (generation === this.generation && !late) this.draw(bitmap);
        bitmap.close();
      } catch {
        // No picture: the last one grows stale.
      }
    }
    this.decoding = false;
  },

  draw(bitmap) {
    if (this.paused || this.allHidden || this.root === null || document.hidden) return;
    if (this.canvas.width !== bitmap.width || this.canvas.height !== bitmap.height) {
      this.canvas.width = bitmap.width;
      this.canvas.height = bitmap.height;
      this.stage.style.aspectRatio = `${bitmap.width} / ${bitmap.height}`;
    }
    this.canvas.getContext("2d").drawImage(bitmap, 0, 0);
    this.drawnMs = performance.now();
    this.refresh();
  },

  /** Empties the picture, so that there is nothing left to be seen or read back. */
  clear() {
    this.drawnMs = -Infinity;
    if (this.root !== null && !this.canvas.hidden) {
      this.canvas.getContext("2d").clearRect(0, 0, this.canvas.width, this.canvas.height);
    }
    this.refresh();
  },

  staleMs() {
    return Math.min(this.state.status?.staleMs ?? M2FP_STALE_MS, M2FP_STALE_MS);
  },

  /** Shows the picture while it is fresh, the card from then on. */
  refresh() {
    const now = performance.now();
    if (now - this.heardMs > M2FP_SILENCE_MS && this.state.connection !== "off") {
      this.state = { connection: "off", problem: null, status: null };
    }
    if (this.root === null) return;
    const fresh = now - this.drawnMs <= this.staleMs() && !document.hidden;
    if (!fresh && this.drawnMs !== -Infinity) {
      this.clear(); // comes back here
      return;
    }
    this.canvas.hidden = !fresh;
    this.card.hidden = fresh;
    const [sentence, line] = [fresh ? "" : this.reason(), this.privacyLine()];
    const shown = `${sentence}\n${line}`;
    if (shown === this.shown) return; // a screen reader hears changes alone
    this.shown = shown;
    this.sentence.textContent = sentence;
    this.line.textContent = line;
  },

  /** Why there is no picture, in one sentence. */
  reason() {
    const { connection, problem, status } = this.state;
    if (connection === "settings") return this.translate("SETTINGS", { problem });
    if (this.allHidden) return this.translate("HIDDEN");
    if (connection === "refused") return this.translate("REFUSED");
    if (connection === "off") return this.translate("OFFLINE");
    if (status === null || status.state === "starting") return this.translate("STARTING");
    if (status.state === "away") return this.translate("AWAY");
    return this.translate(status.level === "frame" ? "HIDDEN" : "WAIT");
  },

  /** What is covered and whether anything is stored; nothing where nobody knows. */
  privacyLine() {
    const { status } = this.state;
    if (status === null || status.state === "starting") return "";
    const words = [this.translate(this.coverWords(status))];
    words.push(this.translate(status.stored ? "STORED" : "NOT_STORED"));
    return words.join(" · ");
  },

  coverWords({ level, silhouette, hide }) {
    if (level === "frame") return "COVER_FRAME";
    if (silhouette) return "COVER_SILHOUETTE";
    if (level === "person") return "COVER_PERSON";
    return M2FP_PRESETS.includes(hide) ? `COVER_${hide.toUpperCase()}` : "COVER_PARTS";
  },

  socketNotificationReceived(notification, payload) {
    if (notification !== "STATE" || payload === null || typeof payload !== "object") return;
    this.state = payload;
    this.heardMs = performance.now();
    const { status } = this.state;
    // A weaker state that was said before our own request arrived does not lift it; an answer does.
    if (status?.level === "frame") this.heardFrame = true;
    else if (this.heardFrame && status !== null) this.allHidden = false;
    this.tellPresence(status);
    this.refresh();
  },

  /** USER_PRESENCE as other modules expect it: on change, and only while the camera sees. */
  tellPresence(status) {
    if (this.config.presence === false || status === null) return;
    if (!["live", "card"].includes(status.state) || typeof status.person !== "boolean") return;
    if (status.person === this.person || !this.everybody) return;
    this.person = status.person;
    this.sendNotification("USER_PRESENCE", status.person);
  },

  notificationReceived(notification, payload) {
    if (notification === "ALL_MODULES_STARTED") {
      this.everybody = true; // until then nobody would get what we say
      this.tellPresence(this.state.status);
    }
    if (notification !== "M2FP_PRIVACY") return;
    const known = payload !== null && typeof payload === "object";
    if (!known || !M2FP_LEVELS.includes(payload.level)) {
      Log.error(`${this.name}: M2FP_PRIVACY wants { level: "parts", "person" or "frame" }`);
      return;
    }
    // To hide everything holds here and now, whoever has still to hear of it.
    this.allHidden = payload.level === "frame";
    this.heardFrame = false;
    if (this.allHidden) this.clear();
    this.sendSocketNotification("PRIVACY", {
      level: payload.level,
      silhouette: payload.silhouette === true,
    });
  },
});
