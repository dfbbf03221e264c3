// The list of opcodes on a time axis. Only the rows that are seen are in the document.

const SVG = "http://www.w3.org/2000/svg";
const STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800, 2592000];
const PRINTED_MAX = 1000;

// How wide a character of the axis' labels is, about, and what lies between two of them, in pixels.
const LABEL_CHARACTER = 7;
const LABEL_GAP = 6;

// Half of the bars are at least that wide, in pixels, where they stand on a clock's axis.
const BAR_LEAST = 8;

const byId = id => document.getElementById(id);

// An element with properties and children; texts become text and nothing else.
function el(tag, properties, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties || {})) {
    if (name === "class") element.className = value;
    else if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter(child => child != null && child !== false));
  return element;
}

function icon(name, title) {
  const svg = document.createElementNS(SVG, "svg");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#i-${name}`);
  svg.setAttribute("class", `i ${name}`);
  svg.setAttribute("viewBox", "0 0 16 16");
  if (title) {
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", title);
  } else svg.setAttribute("aria-hidden", "true");
  svg.append(use);
  return svg;
}

// What the axis shows: from a moment on, for so many seconds. Of kind "elapsed" each opcode begins at 0:
// when its job was submitted, or the opcode before it ended.
class Axis {
  constructor() {
    this.kind = "clock";
    this.isFit = true;
    this.from = 0;
    this.width = 60;
  }

  at(op, time) {
    return ((this.kind === "elapsed" ? time - op.from : time) - this.from) / this.width;
  }

  // Shows these rows: all their beginnings, and all ends but those few that are far out.
  fit(ops, now) {
    if (!this.isFit || !ops.length) return;
    const isElapsed = this.kind === "elapsed";
    const low = isElapsed ? 0 : Math.min(...ops.map(op => op.from));
    const begin = isElapsed ? 0 : Math.max(...ops.map(op => op.from));
    const ends = ops.map(op => seenEnd(op, now) - (isElapsed ? op.from : 0)).sort((a, b) => a - b);
    const most = ends[Math.floor((ends.length - 1) * 0.8)];
    const last = ends[ends.length - 1];
    const high = Math.max(begin, last - low < 4 * (most - low) ? last : most);
    const [width, step] = isElapsed ? niceWidth(high * 1.02, 0) : niceWidth(high - low, low);
    this.from = isElapsed ? 0 : Math.floor(low / step) * step;
    this.width = width;
  }

  // Where bars would be too thin to tell anything, each job begins at 0.
  decide(ops, now, pixels) {
    this.kind = "clock";
    this.fit(ops, now);
    const widths = ops.map(op => ((endOf(op, now) - op.from) / this.width) * pixels).sort((a, b) => a - b);
    if (widths.length && widths[widths.length >> 1] < BAR_LEAST) this.kind = "elapsed";
  }

  key() {
    return `${this.kind} ${this.from} ${this.width}`;
  }

  zoom(factor, about) {
    this.isFit = false;
    const width = Math.min(Math.max(this.width * factor, 0.2), 5e6);
    this.from += (this.width - width) * about;
    this.width = width;
    if (this.kind === "elapsed") this.from = Math.max(0, this.from);
  }

  move(part) {
    this.isFit = false;
    this.from += this.width * part;
    if (this.kind === "elapsed") this.from = Math.max(0, this.from);
  }

  ticks(pixels, room) {
    const most = Math.max(2, Math.floor(pixels / room));
    const step = STEPS.find(step => this.width / step <= most) ?? 2592000;
    const shift = this.kind === "elapsed" || step < 3600 ? 0 : new Date(this.from * 1000).getTimezoneOffset() * 60;
    const first = Math.ceil((this.from - shift) / step) * step + shift;
    const ticks = [];
    for (let time = first; time < this.from + this.width; time += step) {
      let label;
      if (this.kind === "elapsed") label = time === 0 ? "0" : `+${duration(time)}`;
      else if (step >= 86400) label = day(time).slice(5);
      else if (step >= 60) label = clock(time, false) === "00:00" ? day(time).slice(5) : clock(time, false);
      else label = step < 1 ? `${clock(time)}.${Math.floor((time % 1) * 10)}` : clock(time);
      ticks.push([(time - this.from) / this.width, label]);
    }
    return ticks;
  }
}

// Hooks that ran long after their opcode are not looked for.
function seenEnd(op, now) {
  const [end, last] = [endOf(op, now), lastOf(op, now)];
  return last - end < Math.max(10, end - op.from) ? last : end;
}

// A width that people count in, in which so much has room from an even moment on.
function niceWidth(span, low) {
  for (const step of STEPS) {
    for (const many of [4, 6, 8, 10]) {
      const width = step * many;
      const from = Math.floor(low / step) * step;
      if (low + span <= from + width) return [width, step];
    }
  }
  return [span * 1.05, span / 8];
}

class List {
  constructor(onChoose) {
    this.box = byId("list");
    this.body = byId("rows");
    this.axis = new Axis();
    this.rows = [];
    this.pool = [];
    this.chosen = null;
    this.onChoose = onChoose;
    this.isDue = false;
    this.isPrinting = false;
    this.measure();
    this.box.addEventListener("scroll", () => this.draw(), { passive: true });
    new ResizeObserver(() => { this.measure(); this.draw(); }).observe(this.box);
    this.box.addEventListener("click", event => {
      const row = event.target.closest(".row");
      if (row) this.onChoose(this.rows[row.dataset.at]);
    });
  }

  measure() {
    if (this.isPrinting) return;
    this.height = this.box.clientHeight;
    const rowHeight = parseFloat(getComputedStyle(document.documentElement).getPropertyValue("--row"));
    if (rowHeight !== this.rowHeight) for (const row of this.pool) row.at = -1;
    this.rowHeight = rowHeight;
    this.body.style.height = `${this.rows.length * this.rowHeight}px`;
  }

  // The axis that suits the rows that are seen, where nobody has chosen one.
  decide() {
    const [first, end] = this.span();
    this.axis.isFit = true;
    this.axis.decide(this.rows.slice(first, end), this.now(), byId("axis").clientWidth || 300);
    this.draw();
  }

  // Other rows: those that are looked at stay where they are, unless the newest are.
  show(rows) {
    const top = this.box.scrollTop;
    const first = Math.floor(top / this.rowHeight);
    const anchor = top > 0 ? this.rows[first] : null;
    this.rows = rows;
    this.body.style.height = `${rows.length * this.rowHeight}px`;
    if (anchor) {
      const at = rows.indexOf(anchor);
      if (at >= 0 && at !== first) this.box.scrollTop = top + (at - first) * this.rowHeight;
    }
    this.draw();
  }

  draw() {
    if (this.isDue) return;
    this.isDue = true;
    requestAnimationFrame(() => {
      this.isDue = false;
      if (!this.isPrinting) this.drawNow();
    });
  }

  span() {
    const first = Math.floor(this.box.scrollTop / this.rowHeight);
    return [Math.max(0, first), Math.min(this.rows.length, first + Math.ceil(this.height / this.rowHeight) + 1)];
  }

  drawNow() {
    const [first, end] = this.span();
    this.fill(first, Math.max(0, first - 4), Math.min(this.rows.length, end + 4), end);
    this.onDrawn(this.rows[first]);
  }

  fill(first, from, to, end) {
    const now = this.now();
    this.axis.fit(this.rows.slice(first, end), now);
    this.drawTicks(now);
    const drawn = this.axis.key();
    while (this.pool.length < to - from) this.pool.push(newRow(this.body));
    // A row keeps its element while it is seen.
    const free = this.pool.slice();
    const places = new Map();
    this.pool.forEach((row, at) => {
      if (row.at >= from && row.at < to && row.op === this.rows[row.at]) {
        places.set(row.at, row);
        free[at] = null;
      }
    });
    const spare = free.filter(Boolean);
    for (let at = from; at < to; at++) this.put(places.get(at) ?? spare.pop(), at, now, drawn);
    for (const row of spare) {
      row.at = -1;
      row.element.hidden = true;
    }
  }

  put(row, at, now, drawn) {
    const op = this.rows[at];
    const { element } = row;
    element.hidden = false;
    if (row.op !== op || row.event !== op.last || row.at !== at) {
      element.style.transform = `translateY(${at * this.rowHeight}px)`;
      element.dataset.at = at;
      element.id = `row-${at}`;
      element.setAttribute("aria-posinset", at + 1);
      element.setAttribute("aria-setsize", this.rows.length);
      writeRow(row, op, at === 0 || this.rows[at - 1].jobKey !== op.jobKey);
      Object.assign(row, { op, at, event: op.last, drawn: null });
    }
    const isChosen = this.chosen === op.key;
    element.classList.toggle("chosen", isChosen);
    element.setAttribute("aria-selected", isChosen);
    // A bar stays as it is until the axis is another one; one that grows does not.
    if (row.drawn !== drawn || op.isOpen || op.pending) drawBar(row, op, this.axis, now);
    row.drawn = drawn;
  }

  drawTicks(now) {
    const axis = byId("axis");
    const { width, left } = axis.getBoundingClientRect();
    const seen = `${this.axis.key()} ${width} ${left} ${this.height} ${this.rows.length > 0}`;
    if (this.ticksSeen === seen && !this.isLive) return;
    this.ticksSeen = seen;
    const offset = left - this.box.getBoundingClientRect().left;
    const ticks = width && this.rows.length ? this.axis.ticks(width, this.axis.kind === "elapsed" ? 62 : 80) : [];
    axis.replaceChildren(...labels(ticks, width));
    const lines = ticks.map(([at]) => line("", offset + at * width, this.height));
    const present = (now - this.axis.from) / this.axis.width;
    if (this.axis.kind === "clock" && this.isLive && present > 0 && present <= 1) lines.push(line("now", offset + present * width, this.height));
    byId("grid").replaceChildren(...lines);
  }

  choose(at) {
    const op = this.rows[at];
    if (!op) return;
    this.chosen = op.key;
    const top = at * this.rowHeight;
    if (top < this.box.scrollTop) this.box.scrollTop = top;
    else if (top + this.rowHeight > this.box.scrollTop + this.height) this.box.scrollTop = top + this.rowHeight - this.height;
    this.box.setAttribute("aria-activedescendant", `row-${at}`);
    this.drawNow();
  }

  chosenAt() {
    return this.rows.findIndex(op => op.key === this.chosen);
  }

  // Paper has no window: the first rows are all put there, each job from its beginning on.
  print(isPrinting) {
    this.isPrinting = isPrinting;
    if (isPrinting) {
      this.before = { kind: this.axis.kind, isFit: this.axis.isFit, from: this.axis.from, width: this.axis.width };
      Object.assign(this.axis, { kind: "elapsed", isFit: true });
      const many = Math.min(this.rows.length, PRINTED_MAX);
      this.fill(0, 0, many, many);
      this.body.append(...this.pool.slice().sort((a, b) => a.at - b.at).map(row => row.element));
    } else {
      Object.assign(this.axis, this.before);
      for (const row of this.pool.splice(80)) row.element.remove();
      this.measure();
      this.drawNow();
    }
  }
}

// The labels of an axis: those at its edges stay inside, and none covers another.
function labels(ticks, width) {
  let end = -LABEL_GAP;
  return ticks.flatMap(([at, label]) => {
    const [place, size] = [at * width, label.length * LABEL_CHARACTER];
    const [name, left] = place < 30 ? ["edge", place] : width - place < 30 ? ["last", place - size] : ["", place - size / 2];
    if (left < end + LABEL_GAP) return [];
    end = left + size;
    const tick = el("span", { textContent: label, class: name });
    tick.style.left = `${at * 100}%`;
    return [tick];
  });
}

function line(name, left, height) {
  const element = el("div", { class: name });
  element.style.left = `${left}px`;
  element.style.height = `${height}px`;
  return element;
}

function newRow(body) {
  const cell = name => el("span", { class: `c-${name}` });
  const cells = { job: cell("job"), when: cell("when"), code: cell("code"), object: cell("object"), outcome: cell("outcome"), locks: cell("locks"), ran: cell("ran") };
  const bar = el("div", { class: "bar c-chart", "aria-hidden": "true" });
  const element = el("div", { class: "row", role: "option" }, ...Object.values(cells), bar);
  body.append(element);
  return { element, cells, bar, at: -1, op: null };
}

function outcomeWord(op) {
  if (op.outcome === "running") {
    if (op.pending && op.runs.some(run => run.phase === "pre" && !run.over)) return "pre hooks";
    return "running";
  }
  return op.outcome;
}

function writeRow(row, op, isFirst) {
  const { element, cells } = row;
  element.className = `row${isFirst ? " first" : ""}${op.outcome === "disappeared" ? " dead" : ""}`;
  write(cells.job, op.opCount > 1 ? (isFirst ? `${op.job}.${op.op}` : `.${op.op}`) : String(op.job), `job ${op.job}, opcode ${op.op + 1} of ${op.opCount}`);
  write(cells.when, isFirst ? shortStamp(op.received) : "", `submitted ${stamp(op.received)}`);
  write(cells.code, op.name, op.code);
  write(cells.object, op.object.replace(/^instance\//, ""), op.object);
  write(cells.locks, duration(op.lockWait), "waited for locks");
  write(cells.ran, duration(op.execution), "executed");
  const { outcome } = cells;
  outcome.className = `c-outcome ${op.outcome}`;
  outcome.title = op.error ? plain(op.error) : op.begun ? "" : "did not begin to execute";
  outcome.replaceChildren(icon(op.outcome), el("span", { textContent: outcomeWord(op) }));
  if (op.hooksFailed) outcome.append(icon("hooks", "a hook failed"));
  row.bar.title = describe(op);
}

function write(cell, text, title) {
  cell.textContent = plain(text);
  cell.title = text ? plain(title) : "";
}

function describe(op) {
  const parts = [["submitted", stamp(op.received)], ["queued", duration(op.started != null ? op.started - op.from : null)],
    ["waited for locks", duration(op.lockWait)], ["held", duration(op.held)], ["executed", duration(op.execution)]];
  const many = op.runs.filter(isCounted).length;
  const hooks = many ? [`${many} hook run${many > 1 ? "s" : ""}${op.hooksFailed ? ", some failed" : ""}`] : [];
  return parts.filter(([, text]) => text).map(([name, text]) => `${name} ${text}`).concat(hooks).join("\n");
}

function drawBar(row, op, axis, now) {
  const { bar } = row;
  const drawn = [];
  const percent = part => `${(part * 100).toFixed(3)}%`;
  let [early, late] = [false, false];
  for (const [kind, begin, end] of pieces(op, now)) {
    const [from, to] = [axis.at(op, begin), axis.at(op, end)];
    if (to < 0) early = true;
    if (from > 1 || to > 1) late = true;
    if (to < 0 || from > 1 || (from === to && kind !== "exec" && !kind.startsWith("exec "))) continue;
    const piece = el("i", { class: kind });
    piece.style.left = percent(Math.max(0, from));
    piece.style.width = percent(Math.min(1, to) - Math.max(0, from));
    drawn.push(piece);
  }
  const over = axis.at(op, endOf(op, now));
  if ((op.outcome === "failed" || op.outcome === "disappeared") && over >= 0 && over <= 1) {
    const mark = icon(op.outcome);
    mark.setAttribute("class", `mark ${op.outcome}${over > 0.93 ? " inside" : ""}`);
    mark.style.left = percent(over);
    drawn.push(mark);
  }
  if (op.runs.length) drawn.push(drawRuns(op, axis, now));
  if (early && !drawn.length) drawn.push(el("b", { class: "left", textContent: "\u2039" }));
  if (late) drawn.push(el("b", { class: "right", textContent: "\u203a" }));
  bar.replaceChildren(...drawn);
}

// All runs of an opcode's hooks, on all nodes, in a line of their own below its bar.
function drawRuns(op, axis, now) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "runs");
  svg.setAttribute("viewBox", "0 0 1000 5");
  svg.setAttribute("preserveAspectRatio", "none");
  for (const isBad of [false, true]) {
    let shape = "";
    for (const run of op.runs) {
      if (hasFailed(run) !== isBad) continue;
      const from = Math.max(0, axis.at(op, run.started)) * 1000;
      const to = Math.min(1, axis.at(op, runEnd(run, now))) * 1000;
      if (to >= 0 && from <= 1000 && to >= from) shape += `M${from.toFixed(1)} 0h${Math.max(2, to - from).toFixed(1)}v5H${from.toFixed(1)}z`;
    }
    if (!shape) continue;
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", shape);
    path.setAttribute("class", isBad ? "bad" : "good");
    svg.append(path);
  }
  return svg;
}

// How much happened when, over the whole time; what died stands out. A click goes there.
class Overview {
  constructor(list) {
    this.canvas = byId("overview");
    this.list = list;
    this.canvas.addEventListener("click", event => this.go(event.offsetX / this.canvas.clientWidth));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    new ResizeObserver(() => this.draw()).observe(this.canvas);
  }

  show(rows, now) {
    this.rows = rows;
    this.from = rows.length ? rows[rows.length - 1].received : now - 1;
    this.to = Math.max(now, rows.length ? rows[0].received : now, this.from + 1);
    this.draw();
  }

  // How many opcodes of which outcome each part of the time has.
  bins(many) {
    const bins = Array.from({ length: many }, () => ({ good: 0, bad: 0, dead: 0 }));
    for (const op of this.rows) {
      const at = Math.min(many - 1, Math.max(0, Math.floor(((op.received - this.from) / (this.to - this.from)) * many)));
      bins[at][op.outcome === "disappeared" ? "dead" : op.outcome === "failed" ? "bad" : "good"]++;
    }
    return bins;
  }

  draw() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (!this.rows || !width) return;
    const ratio = devicePixelRatio || 1;
    this.canvas.width = width * ratio;
    this.canvas.height = height * ratio;
    const paint = this.canvas.getContext("2d");
    paint.scale(ratio, ratio);
    const style = getComputedStyle(document.documentElement);
    const colour = name => style.getPropertyValue(`--${name}`).trim();
    const many = Math.max(1, Math.floor(width / 4));
    const bins = this.bins(many);
    const most = Math.sqrt(Math.max(...bins.map(bin => bin.good + bin.bad), 1));
    const room = height - 18;
    const step = width / many;
    bins.forEach((bin, at) => {
      const x = at * step;
      const all = (Math.sqrt(bin.good + bin.bad) / most) * room;
      const bad = bin.bad ? Math.max(2, all * (bin.bad / (bin.good + bin.bad))) : 0;
      paint.fillStyle = colour("exec");
      paint.fillRect(x, height - all + bad, step - 1, all - bad);
      paint.fillStyle = colour("failed");
      paint.fillRect(x, height - all, step - 1, bad);
      if (bin.dead) {
        paint.fillStyle = colour("dead");
        paint.fillRect(x + 1, 18, 2, height - 18);
        paint.beginPath();
        paint.moveTo(x - 3, 14);
        paint.lineTo(x + 7, 14);
        paint.lineTo(x + 2, 22);
        paint.fill();
      }
    });
    paint.fillStyle = colour("muted");
    paint.font = "11px system-ui, 'DejaVu Sans', sans-serif";
    paint.fillText(stamp(this.from), 6, 11);
    const end = stamp(this.to);
    paint.fillText(end, width - paint.measureText(end).width - 6, 11);
    this.frame();
  }

  // Where the rows are that are seen.
  frame() {
    const frame = byId("frame");
    const [first, end] = this.list.span();
    const [newest, oldest] = [this.rows?.[first], this.rows?.[end - 1]];
    frame.hidden = !newest || !oldest;
    if (frame.hidden) return;
    const at = op => (op.received - this.from) / (this.to - this.from);
    const width = this.canvas.clientWidth;
    const left = Math.max(0, at(oldest) * width - 2);
    frame.style.transform = `translateX(${left}px)`;
    frame.style.width = `${Math.min(width - left, Math.max(6, at(newest) * width - left + 4))}px`;
  }

  go(part) {
    const time = this.from + part * (this.to - this.from);
    const at = this.rows.findIndex(op => op.received <= time);
    this.list.box.scrollTop = Math.max(0, (at < 0 ? this.rows.length : at) * this.list.rowHeight - this.list.height / 2);
  }
}
