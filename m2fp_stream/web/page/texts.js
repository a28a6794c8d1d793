// Every word on the page, in every language (`LANGUAGES`).

/** Titles and hints of the card, by why there is no picture: names of `core.plan.Why` in lower
 * case, and the page's own reasons. */
const CARDS_EN = {
  starting: ["The mirror is starting", "The picture comes by itself."],
  offline: ["No connection to the mirror", "Trying again."],
  locked: ["This page needs its key", "Open the address that the terminal printed when the mirror started."],
  stopped: ["The picture has stopped", "It comes back by itself."],
  looking: ["One moment", "The mirror looks at what to cover before it shows anything."],
  unsure: ["Hidden for now", "The mirror is not sure what to cover, so it shows nothing."],
  on_request: ["Everything is hidden", "Touch the screen to choose what is shown."],
  on_request_floor: ["Everything is hidden", "It was set up that way."],
  unconfirmed: ["Everything is hidden", "The camera process has not confirmed it yet; trying again."],
  source_away: ["The camera is away", "The picture comes back with it."],
  other_camera: ["Another camera is connected", "The mirror looks at what to cover before it shows anything."],
  uniform: ["Too dark or too plain to judge", "Is the light off, or the lens covered?"],
};

const CARDS_ZH = {
  starting: ["镜子正在启动", "画面稍后会自动出现。"],
  offline: ["与镜子的连接已断开", "正在重新连接。"],
  locked: ["需要密钥才能打开", "请打开镜子启动时终端里显示的网址。"],
  stopped: ["画面暂时中断", "稍后会自动恢复。"],
  looking: ["请稍候", "镜子会先确认需要遮挡的部分，再显示画面。"],
  unsure: ["画面暂时隐藏", "镜子无法确定该遮挡哪里，所以什么都不显示。"],
  on_request: ["画面已全部隐藏", "轻触屏幕，选择要显示的内容。"],
  on_request_floor: ["画面已全部隐藏", "设置如此。"],
  unconfirmed: ["画面已全部隐藏", "尚未得到摄像程序的确认，正在重试。"],
  source_away: ["摄像头已断开", "重新接上后，画面会自动恢复。"],
  other_camera: ["接入了另一个摄像头", "镜子会先确认需要遮挡的部分，再显示画面。"],
  uniform: ["画面太暗或太单一，无法判断", "是不是没开灯，或镜头被挡住了？"],
};

/** Which card stands for which reason, where it has none of its own. */
const SAME = {
  no_parse: "looking",
  cut: "looking",
  reconnected: "looking",
  size_changed: "looking",
  parser_failed: "unsure",
  parser_silent: "unsure",
  wrong_frame: "unsure",
  tracking_failed: "unsure",
  compose_failed: "unsure",
  stale: "unsure",
};

const EN = {
  name: "English",
  locale: "en",
  clock: { timeStyle: "short" },
  title: "Mirror",
  cards: CARDS_EN,
  covered: {
    face: "Faces are covered",
    head: "Heads are covered",
    skin: "Faces and skin are covered",
    person: "People are covered",
    custom: "Chosen parts are covered",
    frosted: "People are frosted",
    silhouette: "Silhouettes only",
    frame: "Everything is hidden",
  },
  coveredBut: ", but for a set area",
  modes: {
    face: "Faces covered",
    head: "Heads covered",
    skin: "Skin covered",
    person: "As set up",
    custom: "As set up",
    frosted: "Frosted people",
    people: "People covered",
    silhouette: "Silhouettes",
    frame: "Hide everything",
  },
  stored: {
    no: "Nothing is stored",
    yes: "A covered recording is kept or sent on",
    perhaps: "A covered recording may be kept",
  },
  screens: (count) => `shown on ${count} screens`,
  behind: (seconds) => `The picture is ${seconds} s behind`,
  picture: "Live picture in the mirror, covered",
  controls: "What the mirror shows",
  belowFloor: "not available here",
  changeFailed: "That did not work. Please try again.",
  consentTitle: "This mirror has a camera",
  consentShown: "It shows what is in front of it, live, as a mirror does.",
  consentCovered: {
    face: "Faces are covered before the picture gets here.",
    head: "Heads are covered before the picture gets here.",
    skin: "Faces and skin are covered before the picture gets here.",
    person: "People are covered whole before the picture gets here.",
    custom: "Chosen parts of people are covered before the picture gets here.",
    frame: "The whole picture is hidden before it gets here.",
  },
  consentBut: " In a part of it that was set, people may be shown as they are.",
  consentAutomatic: " That is done by a program. In doubt it covers more; still, it can miss something.",
  consentStored: {
    no: "Nothing is stored.",
    yes: "A covered recording is kept or sent on. Ask who runs this mirror about it.",
    perhaps: "A covered recording may be kept or sent on. Ask who runs this mirror about it.",
  },
  consentHere: " The covered picture goes to the screens that show this page.",
  consentRemote: " The covered picture also goes over the network, to screens that have the key.",
  consentControl: "Touch the screen at any time to hide more, or everything.",
  consentStart: "Start",
  date: { weekday: "long", month: "long", day: "numeric" },
  day: (text) => text,
};

const ZH = {
  name: "中文",
  locale: "zh-CN",
  clock: { hour: "2-digit", minute: "2-digit", hourCycle: "h23" },
  title: "镜子",
  cards: CARDS_ZH,
  covered: {
    face: "面部已遮挡",
    head: "头部已遮挡",
    skin: "面部和皮肤已遮挡",
    person: "人物已遮挡",
    custom: "指定部位已遮挡",
    frosted: "人物已磨砂遮挡",
    silhouette: "只显示人物剪影",
    frame: "画面已全部隐藏",
  },
  coveredBut: "（指定区域除外）",
  modes: {
    face: "遮挡面部",
    head: "遮挡头部",
    skin: "遮挡皮肤",
    person: "按设置遮挡",
    custom: "按设置遮挡",
    frosted: "人物磨砂",
    people: "遮挡人物",
    silhouette: "人物剪影",
    frame: "全部隐藏",
  },
  stored: {
    no: "不保存任何画面",
    yes: "会保存或转发遮挡后的录像",
    perhaps: "可能会保存遮挡后的录像",
  },
  screens: (count) => `正在 ${count} 块屏幕上显示`,
  behind: (seconds) => `画面延迟 ${seconds} 秒`,
  picture: "镜中的实时画面，已遮挡",
  controls: "镜子显示的内容",
  belowFloor: "此处不可用",
  changeFailed: "没有成功，请再试一次。",
  consentTitle: "这面镜子带有摄像头",
  consentShown: "它像镜子一样，实时显示镜前的画面。",
  consentCovered: {
    face: "画面在显示之前，面部已被遮挡。",
    head: "画面在显示之前，头部已被遮挡。",
    skin: "画面在显示之前，面部和皮肤已被遮挡。",
    person: "画面在显示之前，人物已被整个遮挡。",
    custom: "画面在显示之前，人物的指定部位已被遮挡。",
    frame: "画面在显示之前，已被全部隐藏。",
  },
  consentBut: "指定区域内的人物可能不被遮挡。",
  consentAutomatic: "遮挡由程序自动完成，拿不准时会多遮一些，但仍可能有疏漏。",
  consentStored: {
    no: "不保存任何画面。",
    yes: "遮挡后的录像会被保存或转发，详情请询问镜子的管理者。",
    perhaps: "遮挡后的录像可能会被保存或转发，详情请询问镜子的管理者。",
  },
  consentHere: "遮挡后的画面会传到显示本页面的屏幕。",
  consentRemote: "遮挡后的画面还会通过网络传到持有密钥的屏幕。",
  consentControl: "随时轻触屏幕，就可以遮挡更多，或隐藏全部画面。",
  consentStart: "开始",
  date: { weekday: "long", month: "long", day: "numeric" },
  day: (text) => text.replace(/(\S)(星期)/, "$1 $2"),
};

/** By the two letters that a browser's language begins with (BCP 47). The first is for browsers of
 * other languages. */
export const LANGUAGES = { en: EN, zh: ZH };

/** Returns [title, hint] of the card for a reason; one that is not known counts as doubt. */
export function cardWords(texts, why) {
  const name = Object.hasOwn(SAME, why) ? SAME[why] : why;
  return Object.hasOwn(texts.cards, name) ? texts.cards[name] : texts.cards.unsure;
}
