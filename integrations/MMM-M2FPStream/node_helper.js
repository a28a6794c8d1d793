/* MMM-M2FPStream, the part on MagicMirror's server.
 *
 * It holds the token, keeps one connection to m2fp-stream however many browsers show the mirror,
 * and gives the picture on at /MMM-M2FPStream/stream. No browser gets the token or the address,
 * and nothing that a browser sends is more than "show", "pause" or a request for privacy.
 */
"use strict";

const Log = require("logger");
const NodeHelper = require("node_helper");

const { isOwnPage } = require("./lib/guard");
const { SettingsError, readSettings } = require("./lib/settings");
const { ASK_MS, Upstream, checkedRequest } = require("./lib/upstream");
const { Viewers } = require("./lib/viewers");

/** Requests in a second, from all browsers together; more are not sent on. */
const MOST_REQUESTS = 5;

module.exports = NodeHelper.create({
  start() {
    this.upstream = null;
    this.settings = null;
    this.requests = [];
    this.state = { connection: "off", problem: null, status: null };
    const own = this.ownConfig();
    try {
      this.settings = readSettings(own, global.root_path);
    } catch (error) {
      // Only our own sentences go on: another error's text may name a path.
      const problem = error instanceof SettingsError ? error.message : "the settings cannot be read";
      Log.error(`${this.name}: ${problem}`);
      this.state = { connection: "settings", problem, status: null };
    }
    const names = this.settings?.names ?? [];
    this.io.of(this.name).use((socket, next) => {
      next(isOwnPage(socket.handshake.headers, names) ? undefined : new Error("not this page"));
    });
    this.viewers = new Viewers((count) => {
      this.upstream?.stream(count > 0);
      // What was true of the picture is not said on after nobody asks any more.
      if (count === 0) this.state = { ...this.state, status: null };
    });
    this.expressApp.get(`/${this.name}/stream`, (request, response) => {
      if (isOwnPage(request.headers, names)) {
        this.viewers.add(response);
      } else {
        response.removeHeader("Access-Control-Allow-Origin");
        response.status(403).json({ error: "only MagicMirror's own page may show the picture" });
      }
    });
    if (this.settings !== null) {
      this.upstream = new Upstream(this.settings, {
        onFrame: (jpeg, covered) => this.viewers.frame(jpeg, covered),
        onStatus: (status) => this.tell({ connection: "on", problem: null, status }),
        onGone: (connection) => this.tell({ connection, problem: null, status: null }),
      });
    }
    const presence = own.presence !== false;
    this.timer = setInterval(() => {
      // While the picture is pulled, the status comes with it.
      const shown = this.io.of(this.name).sockets.size > 0;
      if (presence && shown) this.upstream?.ask();
      this.tell(this.state);
    }, ASK_MS);
  },

  /** The module's `config` in config.js; of several entries the first. */
  ownConfig() {
    const modules = Array.isArray(global.config?.modules) ? global.config.modules : [];
    const named = (entry) => String(entry?.module ?? "").split("/").pop() === this.name;
    return modules.find((entry) => named(entry) && !entry.disabled)?.config ?? {};
  },

  /** Says to every browser how things are; said again each second, so that silence means something. */
  tell(state) {
    this.state = state;
    this.sendSocketNotification("STATE", state);
  },

  socketNotificationReceived(notification, payload) {
    if (notification !== "PRIVACY" || this.upstream === null) return;
    const requested = checkedRequest(payload);
    const now = Date.now();
    this.requests = this.requests.filter((at) => now - at < 1000);
    // To hide everything is never one request too many.
    if (requested === null) return;
    if (this.requests.length >= MOST_REQUESTS && requested.level !== "frame") return;
    this.requests.push(now);
    this.upstream.privacy(requested);
  },

  stop() {
    clearInterval(this.timer);
    this.upstream?.close();
    this.viewers?.close();
  },
});
