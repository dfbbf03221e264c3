// Joins the parts: what comes, what is wanted, what is shown.

const isFile = document.body.dataset.mode === "file";
const REBUILD = 150;
const ZONE = Intl.DateTimeFormat().resolvedOptions().timeZone;
const STATUS_PAUSE = 10000;
const FORGET_PAUSE = 600000;

let model = new Model();
let feed = null;
let counts = {};
let statusAt = 0;
let statusDue = null;
let isLive = false;
let begunAt = 0;
let forgotAt = Date.now();
let notices = [];
let axisWanted = "auto";
let isUndecided = true;
const filter = { find: "", outcome: "all", routine: false };
const opened = Date.now() / 1000;
const present = () => (isFile ? Number(document.body.dataset.now) || opened : Date.now() / 1000);

const list = new List(op => open(op));
list.now = present;
list.isLive = !isFile;
const overview = new Overview(list);
const detail = new Detail(model, op => (isFile ? Promise.resolve(op.runs) : whole(op)), op => { reveal(op); open(op); }, () => list.box.focus());
list.onDrawn = first => {
  overview.frame();
  byId("zone").textContent = first ? `${day(first.received)} \u00b7 times: ${ZONE}` : `times: ${ZONE}`;
};

function open(op) {
  list.choose(list.rows.indexOf(op));
  detail.open(op);
}

// Shows an opcode that filters may hide.
function reveal(op) {
  if (!list.rows.includes(op)) {
    Object.assign(filter, { find: "", outcome: "all", routine: filter.routine || op.isRoutine });
    byId("find").value = "";
    byId("routine").checked = filter.routine;
    rebuild();
  }
}

// ---- what is shown

let rebuiltAt = 0;
let rebuildDue = null;

function changed() {
  if (rebuildDue != null) return;
  const pause = Math.max(0, rebuiltAt + REBUILD - performance.now());
  rebuildDue = setTimeout(rebuild, pause);
}

function rebuild() {
  clearTimeout(rebuildDue);
  rebuildDue = null;
  const { rows, counts: counted } = model.rows(filter);
  counts = counted;
  writeCounts();
  list.show(rows);
  if (axisWanted === "auto" && isUndecided && rows.length) list.decide();
  overview.show(rows, present());
  writeEmpty(rows);
  tick();
  rebuiltAt = performance.now();
  document.body.dataset.rows = rows.length;
}

function writeEmpty(rows) {
  const empty = byId("empty");
  empty.hidden = rows.length > 0;
  if (rows.length) return;
  const isFiltered = filter.find || filter.outcome !== "all";
  const routine = counts.routine && !filter.routine ? `\n${counts.routine} routine opcodes are folded away.` : "";
  if (isFiltered) empty.textContent = `Nothing fits these filters.${routine}\nEsc in the search field clears it.`;
  else if (feed && feed.cursor == null) empty.textContent = "\u2026";
  else empty.textContent = `No opcode in this time.${routine}${isFile ? "" : "\nThe next one appears here by itself."}`;
}

const CHIPS = [["all", null, "all"], ["waiting", "waiting", "waiting"], ["running", "running", "running"], ["succeeded", "succeeded", "succeeded"], ["failed", "failed", "failed"], ["disappeared", "disappeared", "disappeared"], ["hooks", "hooks", "hook failed"]];

function writeChips() {
  // In a file nothing waits: what does is no event yet.
  for (const [name, image, words] of CHIPS.filter(([name]) => !isFile || name !== "waiting")) {
    const input = el("input", { type: "radio", name: "outcome", value: name, checked: name === filter.outcome });
    input.addEventListener("change", () => { filter.outcome = name; look(); });
    const chip = el("label", { class: `chip ${name}`, title: words }, input, image && icon(image), el("span", { class: "word", textContent: words }), el("b"));
    byId("outcomes").append(chip);
  }
}

function writeCounts() {
  for (const chip of byId("outcomes").querySelectorAll(".chip")) {
    const name = chip.querySelector("input").value;
    chip.querySelector("b").textContent = (counts[name] ?? 0).toLocaleString("en");
    chip.classList.toggle("none", !counts[name]);
    chip.querySelector("input").checked = name === filter.outcome;
  }
  byId("routine-count").textContent = counts.routine ? `(${counts.routine.toLocaleString("en")}${filter.routine ? "" : " folded"})` : "";
}

// What is under way grows, as long as somebody looks.
let ticking = null;

function tick() {
  clearTimeout(ticking);
  ticking = null;
  if (isFile || document.hidden || !(counts.running + counts.waiting)) return;
  ticking = setTimeout(() => { list.draw(); tick(); }, 1000);
}

document.addEventListener("visibilitychange", () => {
  tick();
  askStatus();
});

// ---- what comes

function begin() {
  feed?.stop();
  begunAt = performance.now();
  isUndecided = true;
  model = new Model();
  detail.model = model;
  notices = [];
  writeNotices();
  const period = Number(byId("period").value);
  feed = new Feed(period ? Date.now() / 1000 - period : null, take, say);
  feed.run();
  setTimeout(changed, 600);
}

function take(told) {
  // It is decided anew until all that there was has come.
  isUndecided = performance.now() - begunAt < 2000;
  let [isChanged, isShown] = [false, false];
  for (const one of told) {
    if (!one.type) {
      model.take(one);
      isChanged = true;
      if (detail.isOpen() && String(one.id).startsWith(`${detail.op.key}.`)) isShown = true;
    } else if (one.type === "lost" || (one.time ?? 0) >= (feed?.since ?? 0)) {
      notices.push(one);
      writeNotices();
    }
  }
  if (isChanged) {
    forget();
    changed();
    askStatus();
    if (isShown) detail.refresh();
  }
}

// A page that is left open holds what the period says, and not ever more.
function forget() {
  const now = Date.now();
  if (model.ops.size <= KEPT_MAX && now - forgotAt < FORGET_PAUSE) return;
  forgotAt = now;
  const period = Number(byId("period").value);
  model.forget(period ? now / 1000 - period : null);
}

function say(state, text) {
  const line = byId("feed");
  line.className = state;
  line.textContent = state === "live" ? "live" : text;
  isLive = state === "live";
  if (isLive) askStatus();
}

// What has just come is said loudly; what was there before somebody looked can be read.
function writeNotices() {
  const items = ones => ones.map(one => el("li", { textContent: plain(inWords(one)) }));
  const isNew = one => one.type === "lost" || one.time > opened;
  const [recent, past] = [notices.filter(isNew).slice(-5), notices.filter(one => !isNew(one)).slice(-100)];
  const box = byId("notices");
  box.replaceChildren();
  if (past.length) {
    const words = past.length === 1 ? "a time when nobody watched, or another master" : "times when nobody watched, or other masters";
    box.append(el("details", { class: "past" }, el("summary", { textContent: `${past.length === 1 ? "" : `${past.length} `}${words}` }), el("ul", null, ...items(past))));
  }
  if (recent.length) {
    const dismiss = el("button", { type: "button", textContent: "Dismiss" });
    dismiss.addEventListener("click", () => { notices = notices.filter(one => !isNew(one)); writeNotices(); });
    box.append(el("div", { class: "notice", role: "alert" }, dismiss, ...recent.map(one => el("div", { textContent: plain(inWords(one)) }))));
  }
}

function inWords(one) {
  if (one.type === "lost") return `Events are missing here: ${one.detail}. What there still is follows.`;
  if (one.type === "takeover") return `${stamp(one.time)} ${one.node} has become master.`;
  if (one.type === "gap") return `Nobody watched the queue ${one.since ? `from ${stamp(one.since)}` : "for a while"} until ${stamp(one.time)}: what was found then came late.`;
  return `${stamp(one.time)} ${one.type}`;
}

// The daemon's own state, and what waits, is asked for when something has happened, and while something
// is under way: an idle one is left alone.
function askStatus() {
  if (isFile || document.hidden) return;
  statusDue ??= setTimeout(writeStatus, Math.max(0, statusAt + STATUS_PAUSE - Date.now()));
}

async function writeStatus() {
  statusDue = null;
  statusAt = Date.now();
  let isBusy = true;
  try {
    const answer = await fetch("/v1/status", { cache: "no-store" });
    if (!answer.ok) throw new Error(await problem(answer));
    const status = await answer.json();
    const { node, role, master, problems = [] } = status;
    byId("place").textContent = plain(`${node} \u00b7 ${role}${role === "standby" && master ? ` (master: ${master})` : ""}`);
    byId("problems").textContent = problems.length ? `${problems.length} problem${problems.length > 1 ? "s" : ""}: ganeti-hookd status` : "";
    byId("problems").title = plain(problems.join(" / "));
    const waits = await waiting();
    const isShown = () => detail.isOpen() && model.ops.has(detail.op.key);
    const wasShown = isShown();
    if (model.wait(waits)) changed();
    if (wasShown && !isShown()) detail.refresh();
    isBusy = model.isBusy(status, present());
  } catch {
    // The feed tells when nobody answers, and asks again when somebody does.
  }
  if (isBusy && isLive) askStatus();
}

// ---- what is wanted

// Other rows are wanted.
function look() {
  list.box.scrollTop = 0;
  isUndecided = true;
  rebuild();
  isUndecided = false;
}

function zoom(factor, about = 0.5) {
  list.axis.zoom(factor, about);
  list.draw();
}

function chooseAxis(kind) {
  axisWanted = kind;
  if (kind === "auto") return list.decide();
  list.axis.kind = kind;
  fit();
}

function fit() {
  list.axis.isFit = true;
  list.draw();
}

function step(event) {
  const rows = list.rows.length;
  const page = Math.max(1, Math.floor(list.height / list.rowHeight) - 1);
  const at = list.chosenAt();
  const moves = { ArrowDown: at + 1, ArrowUp: at < 0 ? 0 : at - 1, PageDown: at + page, PageUp: at - page, Home: 0, End: rows - 1 };
  if (event.key in moves && rows) {
    const to = Math.min(rows - 1, Math.max(0, moves[event.key]));
    list.choose(to);
    if (detail.isOpen()) detail.open(list.rows[to]);
    return true;
  }
  if (event.key === "Enter" && at >= 0) {
    detail.open(list.rows[at]);
    if (matchMedia("(max-width: 760px)").matches) detail.box.focus();
    return true;
  }
  const acts = { ArrowLeft: () => list.axis.move(-0.25), ArrowRight: () => list.axis.move(0.25) };
  if (!(event.key in acts)) return false;
  acts[event.key]();
  list.draw();
  return true;
}

function keyPressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const { target } = event;
  const isTyping = target.matches("input[type=search], select");
  if (event.key === "Escape") {
    if (isTyping && target.value && target.id === "find") {
      target.value = "";
      target.dispatchEvent(new Event("input"));
    } else if (detail.isOpen()) detail.close();
    else list.box.focus();
    return event.preventDefault();
  }
  if (isTyping) {
    if (target.id === "find" && ["Enter", "ArrowDown"].includes(event.key)) {
      list.box.focus();
      if (list.chosenAt() < 0) list.choose(0);
      event.preventDefault();
    }
    return;
  }
  const acts = { "/": () => { byId("find").focus(); byId("find").select(); }, "+": () => zoom(0.5), "-": () => zoom(2), "0": fit };
  if (event.key in acts) {
    acts[event.key]();
    return event.preventDefault();
  }
  if ((target === list.box || target === document.body) && step(event)) {
    if (target === document.body) list.box.focus();
    event.preventDefault();
  }
}

function listen() {
  document.addEventListener("keydown", keyPressed);
  byId("filters").addEventListener("submit", event => event.preventDefault());
  byId("find").addEventListener("input", event => { filter.find = event.target.value; look(); });
  byId("routine").addEventListener("change", event => { filter.routine = event.target.checked; rebuild(); });
  byId("period")?.addEventListener("change", begin);
  byId("axis-kind").addEventListener("change", event => chooseAxis(event.target.value));
  byId("zoom-in").addEventListener("click", () => zoom(0.5));
  byId("zoom-out").addEventListener("click", () => zoom(2));
  byId("zoom-fit").addEventListener("click", fit);
  byId("list").addEventListener("wheel", event => {
    if (!event.ctrlKey) return;
    event.preventDefault();
    const { left, width } = byId("axis").getBoundingClientRect();
    zoom(event.deltaY > 0 ? 1.25 : 0.8, Math.min(1, Math.max(0, (event.clientX - left) / width)));
  }, { passive: false });
  addEventListener("beforeprint", () => { writePrinted(); list.print(true); });
  addEventListener("afterprint", () => list.print(false));
}

// What somebody who holds the paper must know of the filters.
function writePrinted() {
  const words = [];
  if (filter.outcome !== "all") words.push(filter.outcome === "hooks" ? "only with a hook that failed" : `only ${filter.outcome}`);
  if (filter.find) words.push(`only with \u201c${filter.find}\u201d`);
  if (counts.routine && !filter.routine) words.push(`${counts.routine} routine opcodes folded away`);
  if (list.rows.length > PRINTED_MAX) words.push(`the newest ${PRINTED_MAX} of ${list.rows.length}`);
  byId("zone").textContent = plain([`printed ${stamp(Date.now() / 1000)}`, `times: ${ZONE}`, ...words].join(" \u00b7 "));
}

writeChips();
listen();
if (isFile) {
  for (const line of byId("events").textContent.split("\n")) {
    if (line.trim()) model.take(JSON.parse(line));
  }
  rebuild();
} else {
  begin();
}
