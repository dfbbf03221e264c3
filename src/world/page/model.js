"use strict";
// What the feed tells, as jobs and opcodes. All text in it is foreign: it is shown as text only.

// Opcodes that somebody or something asks all day, and that change nothing.
const ROUTINE = /^OP_(GROUP_VERIFY_DISKS|QUERY|QUERY_FIELDS|.+_QUERY|.+_QUERY_DATA|.+_QUERY_STORAGE|NODE_QUERYVOLS|.+_DIAGNOSE|TAGS_GET|TAGS_SEARCH)$/;

// More opcodes than this are not kept: the oldest are let go.
const KEPT_MAX = 60000;

// Ganeti frees the locks of a job that died after so many seconds, about.
const LOCKS_AFTER_DEATH = 330;

class Model {
  constructor() {
    this.ops = new Map();
  }

  // Takes an event, as it is now. An event comes again with each change; its last state counts.
  take(event) {
    const op = this.op(event);
    delete op.events.wait;
    this.settle(op, event.phase === "pre" ? "pre" : "post", event);
  }

  // The opcode that an event is of.
  op(event) {
    const key = opcodeKey(event);
    if (!this.ops.has(key)) this.ops.set(key, { key, events: {} });
    return this.ops.get(key);
  }

  // Takes what waits for its locks now, which is no event yet: what is not told any more waits no more.
  // Returns whether that changes anything.
  wait(waiting) {
    const told = new Set(waiting.map(opcodeKey));
    const over = [...this.ops.values()].filter(op => op.events.wait && !told.has(op.key));
    for (const op of over) this.ops.delete(op.key);
    for (const event of waiting) {
      const op = this.op(event);
      // An event that has been told is newer.
      if (!op.events.pre && !op.events.post) this.settle(op, "wait", event);
    }
    return over.length + waiting.length > 0;
  }

  // Whether something may begin to wait though the feed says nothing: something has its locks, or has
  // died with them a short time ago. What has them may have begun before all that is shown; and what
  // is shown as under way may be a job that has been lost.
  isBusy(status, now) {
    const holds = op => (op.isOpen ? status.jobs_open > 0 : op.outcome === "disappeared" && now - op.noticed < LOCKS_AFTER_DEATH);
    return status.processes_watched > 0 || [...this.ops.values()].some(holds);
  }

  settle(op, kind, event) {
    op.events[kind] = event;
    const { wait, pre, post } = op.events;
    const last = post || pre || wait;
    op.last = last;
    const known = name => post?.[name] ?? (pre || wait)?.[name] ?? null;
    op.job = last.job;
    op.op = last.op;
    op.jobKey = op.key.slice(0, op.key.lastIndexOf("."));
    op.opCount = last.op_count;
    op.code = String(last.op_code);
    op.name = op.code.replace(/^OP_/, "");
    op.object = objectName(known("object"));
    op.received = last.received;
    op.started = known("started");
    op.executed = known("executed_at");
    op.ended = known("ended");
    op.held = known("held");
    op.startDelay = known("start_delay");
    op.lockWait = known("lock_wait");
    op.execution = known("execution");
    op.error = known("error");
    op.parent = known("parent");
    op.reason = (post && post.reason && post.reason.length ? post.reason : last.reason) || [];
    op.begun = post ? post.executed : true;
    op.noticed = last.time;
    op.isOpen = !post;
    op.outcome = post ? post.status || "succeeded" : pre ? "running" : "waiting";
    op.runs = [pre, post].flatMap(event => (event ? runsOf(event) : []));
    op.hooksFailed = op.runs.some(hasFailed);
    op.pending = last.state === "pending";
    op.isRoutine = ROUTINE.test(op.code) && (op.isOpen || op.outcome === "succeeded") && !op.hooksFailed;
    op.from = op.op === 0 ? op.received : op.started != null && op.startDelay != null ? op.started - op.startDelay : op.started ?? op.received;
    op.text = null;
  }

  // Lets the oldest go when there are too many, and those noticed before `since`.
  forget(since) {
    const all = [...this.ops.values()].sort((a, b) => a.noticed - b.noticed);
    const surplus = all.length - KEPT_MAX;
    all.forEach((op, at) => {
      if (at < surplus || (since && op.noticed < since && !op.isOpen)) this.ops.delete(op.key);
    });
  }

  // The newest job first, its opcodes in their order.
  rows(filter) {
    const counts = { all: 0, hooks: 0, routine: 0, waiting: 0, running: 0, succeeded: 0, failed: 0, disappeared: 0 };
    const words = filter.find.toLowerCase().split(/\s+/).filter(Boolean);
    const rows = [];
    for (const op of this.ops.values()) {
      if (words.length && !words.every(word => searchText(op).includes(word))) continue;
      if (op.isRoutine) {
        counts.routine++;
        if (!filter.routine) continue;
      }
      counts.all++;
      counts[op.outcome]++;
      if (op.hooksFailed) counts.hooks++;
      if (filter.outcome === "all" || op.outcome === filter.outcome || (filter.outcome === "hooks" && op.hooksFailed)) rows.push(op);
    }
    rows.sort((a, b) => b.received - a.received || b.job - a.job || a.op - b.op);
    return { rows, counts };
  }
}

const opcodeKey = event => String(event.id).replace(/\.(pre|post)$/, "");

// The runs of an event. One that the daemon did not see end is over when its script has begun again, or the
// event waits for none.
function runsOf(event) {
  const runs = event.runs ?? [];
  const isAgain = run => runs.some(other => other.attempt > run.attempt && ["node", "directory", "script"].every(name => other[name] === run[name]));
  return runs.map(run => ({ ...run, phase: event.phase, over: run.ended || event.state !== "pending" || isAgain(run) }));
}

function hasFailed(run) {
  return run.ended && (run.code !== 0 || run.error != null);
}

// A request to another node is no script, and counts where it failed.
const isRequest = run => run.script === run.directory;
const isCounted = run => !isRequest(run) || hasFailed(run);

function objectName(object) {
  if (!object) return "";
  const kind = String(object.type).toLowerCase();
  return object.name == null ? kind : `${kind}/${object.name}`;
}

// What is looked through: made when somebody looks.
function searchText(op) {
  if (op.text == null) {
    const reasons = op.reason.map(entry => `${entry[0]} ${entry[1]}`);
    const runs = op.runs.map(run => `${run.node} ${run.script}`);
    op.text = [op.job, `${op.job}.${op.op}`, op.code, op.object, op.error ?? "", op.outcome, ...reasons, ...runs].join(" ").toLowerCase();
  }
  return op.text;
}

// The pieces of an opcode's bar: kind, begin, end. What has no end yet ends now.
function pieces(op, now) {
  const end = endOf(op, now);
  const found = [];
  const piece = (kind, from, to) => {
    if (from != null && to != null && to >= from) found.push([kind, from, to]);
  };
  piece("queued", op.from, op.started ?? end);
  if (op.started == null) return found;
  piece("locks", op.started, op.executed ?? end);
  if (op.executed == null) return found;
  const held = Math.min(op.held ?? 0, Math.max(0, end - op.executed));
  if (held > 0) piece("held", op.executed, op.executed + held);
  piece(op.outcome === "succeeded" ? "exec" : `exec ${op.outcome}`, op.executed + held, end);
  return found;
}

// When it was over: a dead one when that was noticed.
function endOf(op, now) {
  if (op.ended != null) return op.ended;
  if (op.isOpen) return Math.max(now, op.executed ?? op.received);
  return Math.max(op.noticed, op.executed ?? op.started ?? op.received);
}

// When all of it was over, its hooks too.
function lastOf(op, now) {
  let last = endOf(op, now);
  for (const run of op.runs) last = Math.max(last, runEnd(run, now));
  return last;
}

function runEnd(run, now) {
  if (run.seconds != null) return run.started + run.seconds;
  return run.over ? run.started : Math.max(now, run.started);
}

// A text as one line that says nothing: control characters and those that turn the writing round are spelled out.
function plain(text) {
  return spelled(text, /[\p{Cc}\u2028\u2029\u200e\u200f\u061c\u202a-\u202e\u2066-\u2069]/gu);
}

// A text of several lines.
function plainLines(text) {
  return spelled(String(text).replace(/\r\n/g, "\n"), /[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u061c\u202a-\u202e\u2066-\u2069]/gu);
}

function spelled(text, hidden) {
  return String(text).replace(hidden, c => `\\u{${c.codePointAt(0).toString(16)}}`);
}

function duration(seconds) {
  if (seconds == null) return "";
  if (seconds < 0.0995) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  const [d, h, m, s] = [Math.floor(whole / 86400), Math.floor(whole / 3600) % 24, Math.floor(whole / 60) % 60, whole % 60];
  if (d) return h ? `${d} d ${h} h` : `${d} d`;
  if (h) return m ? `${h} h ${m} m` : `${h} h`;
  if (m) return s ? `${m} m ${s} s` : `${m} m`;
  return `${s} s`;
}

const two = number => String(number).padStart(2, "0");

function clock(seconds, withSeconds = true) {
  const time = new Date(seconds * 1000);
  const short = `${two(time.getHours())}:${two(time.getMinutes())}`;
  return withSeconds ? `${short}:${two(time.getSeconds())}` : short;
}

function day(seconds) {
  const time = new Date(seconds * 1000);
  return `${time.getFullYear()}-${two(time.getMonth() + 1)}-${two(time.getDate())}`;
}

const stamp = seconds => (seconds == null ? "" : `${day(seconds)} ${clock(seconds)}`);

// Without the day where it is today.
const shortStamp = seconds => (day(seconds) === day(Date.now() / 1000) ? clock(seconds) : `${day(seconds).slice(5)} ${clock(seconds, false)}`);
