// The mirror: what is shown is decided here, in `render`, from what is known.

import { Behind } from "./clock.js";
import { Picture } from "./picture.js";
import { PrivacyRequest, known, rank } from "./request.js";
import { Stream } from "./stream.js";
import { LANGUAGES, cardWords } from "./texts.js";

const BAR_MS = 8000;
const CURSOR_MS = 3000;
const AWAKE_MS = 30_000;
const SAY_AFTER_MS = 1200;

/** A status older than this says nothing any more; the server sends one a second. */
const STATUS_MS = 4000;

/** How old the picture is, is looked at so often. */
const AGE_MS = 100;

/** Burn-in: nothing stays on the same spot for longer; each move is less than a pixel. */
const DRIFT_MS = 5000;
const DRIFT_PX = 14;
const MINUTE_MS = 60_000;

const MODES = {
  parts: { level: "parts", silhouette: false },
  person: { level: "person", silhouette: false },
  silhouette: { level: "person", silhouette: true },
  frame: { level: "frame", silhouette: false },
};

const at = (id) => document.getElementById(id);
const mirror = at("mirror");
const bar = at("bar");
const modeButtons = [...bar.querySelectorAll("[data-mode]")];

// --- what is known ---

let status = null;
let statusMs = 0;
let line = "offline";
let everOpen = false;

let awakeUntilMs = 0;
let agreed = (remembered("m2fp-consent") ?? "").split(" ");
let language = "en";
let texts = LANGUAGES.en;
let coveredMs = -Infinity; // when the last wholly covered frame came

function remembered(name) {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}

function remember(name, value) {
  try {
    localStorage.setItem(name, value);
  } catch {
    // Without storage it holds until the page is loaded again.
  }
}

const options = () => status?.options ?? {};
const request = new PrivacyRequest(
  (answer) => take(answer, false),
  () => render(),
);

/** What is hidden now, as far as this page knows: what was chosen, or what the server says. */
function holds() {
  if (request.current !== null) return request.current;
  if (status === null) return { level: "frame", silhouette: false };
  return { level: known(status.level), silhouette: status.silhouette === true };
}

const floor = () => (status === null ? "frame" : known(status.floor));
const LOCAL = ["127.0.0.1", "localhost", "[::1]"];

/** Whether the picture goes over a network; a server that does not deny it counts as one. */
const remote = () => status?.remote !== false || !LOCAL.includes(location.hostname);

/** What somebody agrees to now; whoever agreed to less is asked again. */
const terms = () => [
  "yes",
  ...(status?.stored === false ? [] : ["stored"]),
  ...(remote() ? ["remote"] : []),
  ...(status?.keep_zones === false ? [] : ["kept"]),
];

const consentNeeded = () =>
  options().consent !== false && !terms().every((term) => agreed.includes(term));
const asks = () => status !== null && consentNeeded();
const asleep = () => status?.asleep === true && performance.now() > awakeUntilMs;

/** Why there must be no picture, as `texts.js` names it; null where there may be one. */
function whyNot() {
  if (line === "locked") return "locked";
  if (line !== "open") return everOpen ? "offline" : "starting";
  if (status === null || performance.now() - statusMs > STATUS_MS) return "starting";
  if (request.current?.level === "frame" && request.failing) return "unconfirmed";
  if (holds().level === "frame") return floor() === "frame" ? "on_request_floor" : "on_request";
  if (status.state === "live") return request.current?.stronger || justCovered() ? "looking" : null;
  if (status.state === "starting") return "starting";
  if (typeof status.why === "string") {
    // A change of what is hidden: the card's reason is about to go.
    return status.why === "on_request" ? "looking" : status.why;
  }
  return status.state === "away" ? "source_away" : "unsure";
}

/** A card has come and its reason not yet. */
const justCovered = () => coveredMs > statusMs;

// --- what is shown ---

const picture = new Picture(
  at("picture"),
  () => render(),
  (frame) => stream.took(frame.sequence),
);
const behind = new Behind();
let behindS = 0;

/** Looks how far the picture is behind what happens. */
function lookAtAge() {
  const { capturedMs } = picture;
  const nowMs = stream.clock.at(performance.now());
  behind.look(capturedMs === null || nowMs === null ? null : nowMs - capturedMs);
  if (behind.seconds === behindS) return;
  behindS = behind.seconds;
  render();
}

function render() {
  const why = whyNot();
  picture.allow(why === null && !consentNeeded() && !asleep());
  const shown = picture.visible;
  mirror.dataset.view = asleep() ? "night" : asks() ? "consent" : shown ? "picture" : "card";
  mirror.dataset.why = shown ? "" : (why ?? "stopped");
  const [title, hint] = cardWords(texts, why ?? "stopped");
  if (!shown) {
    write(at("card-title"), title);
    write(at("card-hint"), hint);
  }
  at("card").ariaHidden = String(shown);
  at("picture").ariaHidden = String(!shown);
  renderState(shown);
  renderBar();
  renderConsent();
  const words = request.failed ? texts.changeFailed : shown ? shownWords() : title;
  say(asleep() || asks() ? "" : words);
}

/** Returns what is said of a picture: what is covered, and whether it is behind. */
function shownWords() {
  const covered = stateWords(true)[1];
  return behindS > 0 ? `${covered} · ${texts.behind(behindS)}` : covered;
}

/** Returns [icon, words] for what is covered. */
function stateWords(shown) {
  const { level, silhouette } = holds();
  if (!shown || level === "frame") return ["hidden", texts.covered.frame];
  const hide = preset();
  const but = status?.keep_zones === true ? texts.coveredBut : "";
  if (level === "person") {
    if (silhouette) return ["silhouette", texts.covered.silhouette + but];
    return ["frosted", (frosts() ? texts.covered.frosted : texts.covered.person) + but];
  }
  return [hide === "person" ? "frosted" : "heads", texts.covered[hide] + but];
}

/** Whether whole people are filled with frost, as far as the server said. */
const frosts = () => status?.effect === "frost";

function preset() {
  const hide = status?.hide;
  return ["face", "head", "skin", "person"].includes(hide) ? hide : "custom";
}

function renderState(shown) {
  const [icon, words] = stateWords(shown);
  const href = `#icon-${icon}`;
  if (at("state-icon").getAttribute("href") !== href) at("state-icon").setAttribute("href", href);
  write(at("state-cover"), words);
  const facts = [];
  if (status !== null) facts.push(texts.stored[kept()]);
  if (status?.watching > 1) facts.push(texts.screens(status.watching));
  write(at("state-stored"), request.failed ? texts.changeFailed : facts.join(" · "));
  at("state-stored").classList.toggle("failed", request.failed);
  at("state-behind").hidden = !shown || behindS === 0;
  write(at("state-behind"), behindS > 0 ? texts.behind(behindS) : "");
}

/** Whether a recording is kept or sent on, as `texts.js` names it. */
function kept() {
  return status.stored === false ? "no" : status.stored === true ? "yes" : "perhaps";
}

function renderBar() {
  const { level, silhouette } = holds();
  const now = level === "person" && silhouette ? "silhouette" : level;
  const names = {
    parts: texts.modes[preset()],
    person: frosts() ? texts.modes.frosted : texts.modes.people,
    silhouette: texts.modes.silhouette,
    frame: texts.modes.frame,
  };
  for (const button of modeButtons) {
    const mode = button.dataset.mode;
    const below = rank(MODES[mode].level) < rank(floor());
    write(button.lastElementChild, names[mode]);
    set(button, "aria-pressed", String(mode === now));
    set(button, "aria-disabled", String(below));
    if (below) set(button, "aria-label", `${names[mode]}, ${texts.belowFloor}`);
    else button.removeAttribute("aria-label");
  }
  const alarms = Array.isArray(status?.alarms) ? status.alarms.filter((a) => typeof a === "string") : [];
  at("notice").hidden = alarms.length === 0;
  write(at("notice"), alarms.join(" · "));
}

function renderConsent() {
  const wanted = asks();
  const consent = at("consent");
  if (wanted) {
    const covered = floor() === "frame" ? "frame" : floor() === "person" ? "person" : preset();
    const but = status?.keep_zones === false || covered === "frame" ? "" : texts.consentBut;
    write(at("consent-covered"), texts.consentCovered[covered] + but + texts.consentAutomatic);
    const goes = remote() ? texts.consentRemote : texts.consentHere;
    write(at("consent-stored"), texts.consentStored[kept()] + goes);
  }
  if (consent.hidden === !wanted) return;
  consent.hidden = !wanted;
  for (const id of ["head", "foot", "card"]) at(id).inert = wanted;
  if (wanted) at("consent-start").focus({ focusVisible: false });
}

function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function set(element, name, value) {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

let saying = 0;
let toSay = "";

/** Tells screen readers, once it has been so for a moment. */
function say(words) {
  if (words === toSay) return;
  toSay = words;
  clearTimeout(saying);
  saying = setTimeout(() => write(at("announce"), words), SAY_AFTER_MS);
}

// --- what people choose ---

function choose(mode) {
  const { level, silhouette } = MODES[mode];
  if (rank(level) < rank(floor())) return;
  const now = status === null ? "parts" : known(status.level);
  const flat = holds().silhouette && status?.silhouette === true;
  const stronger =
    rank(level) > rank(now) ||
    rank(level) > rank(holds().level) ||
    (rank(level) === rank(now) && silhouette && !flat);
  request.choose(MODES[mode], stronger);
}

/** Takes a status in, from the stream or an answer. */
function take(next, streamed) {
  status = next;
  statusMs = performance.now();
  request.take(status, streamed);
  const { rotation, mirror: mirrored, clock, stale_s: stillS } = options();
  mirror.dataset.rotation = [90, 180, 270].includes(rotation) ? rotation : 0;
  picture.mirror = mirrored !== false;
  at("head").hidden = clock === false;
  picture.stillS = stillS;
  if (!languageSettled) {
    languageSettled = true;
    speak(firstLanguage());
  }
  render();
}

// --- language and clock ---

let languageSettled = false; // by the server's options, or by somebody
let shownMinute = null;

function firstLanguage() {
  const chosen = remembered("m2fp-language") ?? options().language;
  if (Object.hasOwn(LANGUAGES, chosen ?? "")) return chosen;
  const browsers = navigator.language.toLowerCase().slice(0, 2);
  return Object.hasOwn(LANGUAGES, browsers) ? browsers : Object.keys(LANGUAGES)[0];
}

function speak(name) {
  language = name;
  texts = LANGUAGES[name];
  document.documentElement.lang = texts.locale;
  document.title = texts.title;
  for (const element of document.querySelectorAll("[data-text]")) {
    write(element, texts[element.dataset.text]);
  }
  set(bar, "aria-label", texts.controls);
  set(at("picture"), "aria-label", texts.picture);
  const next = LANGUAGES[nextLanguage()];
  for (const id of ["language", "consent-language"]) {
    write(at(id), next.name);
    at(id).lang = next.locale;
  }
  shownMinute = null;
  tick();
  render();
}

function nextLanguage() {
  const all = Object.keys(LANGUAGES);
  return all[(all.indexOf(language) + 1) % all.length];
}

function otherLanguage() {
  languageSettled = true;
  speak(nextLanguage());
  remember("m2fp-language", language);
}

/** As the browser has it where it speaks the page's language (English: 12 or 24 hours). */
function tick() {
  const now = new Date();
  const minute = Math.floor(now / 60_000);
  if (minute === shownMinute) return;
  shownMinute = minute;
  const mine = navigator.language.toLowerCase().startsWith(language);
  const locale = mine ? navigator.language : texts.locale;
  const format = new Intl.DateTimeFormat(locale, texts.clock);
  const parts = format.formatToParts(now);
  const time = parts.filter(({ type }) => type !== "dayPeriod").map(({ value }) => value);
  const half = parts.find(({ type }) => type === "dayPeriod")?.value ?? "";
  const text = time.join("").trim();
  const small = document.createElement("small");
  small.textContent = half;
  at("clock").replaceChildren(text, ...(half ? [small] : []));
  at("clock").dateTime = now.toTimeString().slice(0, 5);
  const day = new Intl.DateTimeFormat(locale, texts.date).format(now);
  write(at("date"), texts.day(day));
}

// --- hands, keys, time ---

let barTimer = 0;
let cursorTimer = 0;

const barOpen = () => !bar.inert;

function openBar() {
  if (asks()) return;
  bar.inert = false;
  mirror.dataset.bar = "open";
  clearTimeout(barTimer);
  barTimer = setTimeout(closeBar, BAR_MS);
}

function closeBar() {
  clearTimeout(barTimer);
  if (bar.contains(document.activeElement)) document.activeElement.blur();
  bar.inert = true;
  delete mirror.dataset.bar;
}

/** Returns whether it slept. */
function wake() {
  const slept = asleep();
  awakeUntilMs = performance.now() + AWAKE_MS;
  stream.awake();
  if (slept) render();
  return slept;
}

function showCursor() {
  mirror.dataset.cursor = "shown";
  clearTimeout(cursorTimer);
  cursorTimer = setTimeout(() => delete mirror.dataset.cursor, CURSOR_MS);
}

addEventListener("pointermove", (event) => {
  if (event.pointerType !== "touch") showCursor();
});
addEventListener("pointerdown", wake, true);
addEventListener("click", (event) => {
  if (bar.contains(event.target) || !barOpen()) openBar();
  else closeBar();
});

/** The first key shows the controls, with the one that holds in focus. */
addEventListener("keydown", (event) => {
  if (["Shift", "Control", "Alt", "Meta"].includes(event.key)) return;
  if (wake()) return event.preventDefault();
  if (asks()) {
    if (event.key === "Tab") stepFocus(event, [at("consent-start"), at("consent-language")]);
    return;
  }
  if (event.key === "Escape") return closeBar();
  const buttons = [...bar.querySelectorAll("button")];
  if (!bar.contains(document.activeElement)) {
    event.preventDefault();
    openBar();
    (buttons.find((one) => one.ariaPressed === "true") ?? buttons[0]).focus({ focusVisible: true });
    return;
  }
  openBar();
  stepFocus(event, buttons);
});

/** Tab and the arrows go round within `buttons`. */
function stepFocus(event, buttons) {
  const back = ["ArrowLeft", "ArrowUp"].includes(event.key) || (event.key === "Tab" && event.shiftKey);
  if (!back && !["ArrowRight", "ArrowDown", "Tab"].includes(event.key)) return;
  event.preventDefault();
  const here = buttons.indexOf(document.activeElement);
  const next = here < 0 ? 0 : (here + (back ? -1 : 1) + buttons.length) % buttons.length;
  buttons[next].focus({ focusVisible: true });
}

for (const button of modeButtons) {
  button.addEventListener("click", () => choose(button.dataset.mode));
}
at("language").addEventListener("click", otherLanguage);
at("consent-language").addEventListener("click", otherLanguage);
at("consent-start").addEventListener("click", (event) => {
  event.stopPropagation();
  agreed = terms();
  remember("m2fp-consent", agreed.join(" "));
  render();
});

// A wall is no desktop: no menus, no dragging, no zoom.
addEventListener("contextmenu", (event) => event.preventDefault());
addEventListener("dragstart", (event) => event.preventDefault());
addEventListener("wheel", (event) => event.ctrlKey && event.preventDefault(), { passive: false });

/** Moves what stands still by a few pixels, on a path that does not repeat soon. */
function drift() {
  const step = Date.now() / MINUTE_MS;
  mirror.style.setProperty("--drift-x", `${(DRIFT_PX * Math.sin(step * 0.7)).toFixed(1)}px`);
  mirror.style.setProperty("--drift-y", `${(DRIFT_PX * Math.sin(step * 0.43)).toFixed(1)}px`);
}

speak(firstLanguage());
drift();
setInterval(drift, DRIFT_MS);
setInterval(() => {
  tick();
  render(); // a status grows old, a wake ends
}, 1000);

const stream = new Stream({
  onStatus: (next) => take(next, true),
  onFrame: (frame) => {
    if (!frame.covered) return picture.show(frame);
    if (status?.state === "live") coveredMs = performance.now();
    picture.clear();
    stream.took(frame.sequence);
  },
  onLine: (now) => {
    line = now;
    if (now === "open") everOpen = true;
    render();
  },
});

/** Tells the server how large the picture is drawn, in the display's own pixels. */
function measure() {
  const { clientWidth, clientHeight } = at("picture");
  stream.fills(clientWidth * devicePixelRatio, clientHeight * devicePixelRatio);
}

new ResizeObserver(measure).observe(at("picture"));
addEventListener("resize", measure); // also where the pixels alone have changed
setInterval(lookAtAge, AGE_MS);
