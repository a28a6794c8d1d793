/* What the module's entry in MagicMirror's config.js says, checked.
 *
 * It is read on the server alone. MagicMirror gives its whole config.js to every browser, so a
 * token has no place in it; and what a browser sends is never taken for a URL or a file name.
 */
"use strict";

const fs = require("node:fs");
const path = require("node:path");

const DEFAULT_URL = "http://127.0.0.1:8765";
const TOKEN = /^[A-Za-z0-9._~-]{16,200}$/;
const NAME = /^[a-z0-9.-]{1,253}$/;
const LARGEST_FILE_BYTES = 64 * 1024;

/** A setting that cannot be used; the message is one sentence that says what to do. */
class SettingsError extends Error {}

/** Whether a host is this computer itself: nobody else can read what goes there. */
function isLoopback(host) {
  return host === "localhost" || host === "[::1]" || /^127(\.\d{1,3}){3}$/.test(host);
}

function readFile(name, what, { secret }) {
  if (typeof name !== "string" || !path.isAbsolute(name)) {
    throw new SettingsError(`${what} is missing; name a file by its whole path`);
  }
  let descriptor;
  try {
    descriptor = fs.openSync(name, fs.constants.O_RDONLY | fs.constants.O_NONBLOCK);
  } catch {
    throw new SettingsError(`${what} cannot be read; see that the file is there and yours`);
  }
  try {
    const facts = fs.fstatSync(descriptor);
    if (!facts.isFile() || facts.size > LARGEST_FILE_BYTES) {
      throw new SettingsError(`${what} is not a small file`);
    }
    if (secret && (facts.mode & 0o077) !== 0) {
      throw new SettingsError(`${what} can be read by others; run: chmod 600 on it`);
    }
    return fs.readFileSync(descriptor, "utf8");
  } finally {
    fs.closeSync(descriptor);
  }
}

function readToken(name, root) {
  if (typeof name === "string" && path.isAbsolute(name)) {
    let real = name;
    try {
      real = fs.realpathSync(name);
    } catch {
      // Says so below, when it is read.
    }
    if (real === root || real.startsWith(root + path.sep)) {
      throw new SettingsError("tokenFile is inside MagicMirror, which serves its folders; move it out");
    }
  }
  const token = readFile(name, "tokenFile", { secret: true }).trim();
  if (!TOKEN.test(token)) {
    throw new SettingsError("tokenFile holds no token; write the kiosk's page.token into it");
  }
  return token;
}

/** Returns {url, token, ca, names} of a module's `config`.
 *
 * `root` is MagicMirror's own folder. Throws SettingsError; no message holds a path or a token.
 */
function readSettings(config, root) {
  if (config.token !== undefined) {
    throw new SettingsError("token must not be in config.js, browsers get that file; use tokenFile");
  }
  let url;
  try {
    url = new URL(config.url ?? DEFAULT_URL);
  } catch {
    throw new SettingsError(`url is not an address; write for example ${DEFAULT_URL}`);
  }
  if (!["http:", "https:"].includes(url.protocol) || url.username || url.password || url.search) {
    throw new SettingsError(`url is not a plain http address; write for example ${DEFAULT_URL}`);
  }
  if (url.protocol === "http:" && !isLoopback(url.hostname)) {
    throw new SettingsError("url is another computer's, which needs https");
  }
  const names = config.names ?? [];
  if (!Array.isArray(names) || !names.every((name) => typeof name === "string" && NAME.test(name))) {
    throw new SettingsError("names is not a list of host names in lower case");
  }
  const ca =
    config.certificate === undefined
      ? undefined
      : readFile(config.certificate, "certificate", { secret: false });
  const token = readToken(config.tokenFile, fs.realpathSync(root));
  return { url, token, ca, names };
}

module.exports = { SettingsError, isLoopback, readSettings };
