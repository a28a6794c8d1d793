/* Whether a request comes from MagicMirror's own page.
 *
 * MagicMirror allows every origin (CORS, and socket.io's too), which suits a weather forecast, not
 * a camera: any web page open in a browser that reaches this mirror could ask.
 */
"use strict";

const net = require("node:net");
const os = require("node:os");

/** The host of a Host header, without its port; null where it is none. */
function hostOf(header) {
  const found = /^(\[[0-9a-f:.]+\]|[a-z0-9.-]+)(?::\d{1,5})?$/i.exec(header ?? "");
  return found === null ? null : found[1].toLowerCase();
}

/** Whether a Host header is one that another site's name cannot be made to point to.
 *
 * An address cannot be rebound by DNS; names count where they are this computer's own or listed.
 */
function isOurHost(header, names) {
  const host = hostOf(header);
  if (host === null) return false;
  if (net.isIP(host.replace(/^\[|\]$/g, ""))) return true;
  const own = os.hostname().toLowerCase();
  return ["localhost", own, `${own}.local`, ...names].includes(host);
}

/** Whether `headers` are those of a request by MagicMirror's own page. */
function isOwnPage(headers, names) {
  if (!isOurHost(headers.host, names)) return false;
  const site = headers["sec-fetch-site"];
  if (site !== undefined && site !== "same-origin" && site !== "none") return false;
  if (headers.origin === undefined) return true;
  try {
    return new URL(headers.origin).host === new URL(`http://${headers.host}`).host ||
      new URL(headers.origin).host === new URL(`https://${headers.host}`).host;
  } catch {
    return false;
  }
}

module.exports = { isOwnPage };
