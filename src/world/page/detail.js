// What is known of one opcode, in words.

class Detail {
  constructor(model, load, follow, onClose) {
    this.box = byId("detail");
    Object.assign(this, { model, load, follow, onClose });
  }

  isOpen() {
    return !this.box.hidden;
  }

  async open(op) {
    this.op = op;
    this.box.hidden = false;
    document.body.classList.add("split");
    this.write(op, null);
    this.box.scrollTop = 0;
    await this.refresh();
  }

  // Its runs with their outputs, as they are now.
  async refresh() {
    // It may be there anew: it waited, did no more, and then its event came.
    const op = (this.op = this.model.ops.get(this.op.key) ?? this.op);
    const turn = (this.turn = (this.turn ?? 0) + 1);
    try {
      const runs = await this.load(op);
      if (this.turn === turn) this.write(op, runs);
    } catch (error) {
      if (this.turn === turn) this.write(op, null, error.message);
    }
  }

  close() {
    this.box.hidden = true;
    this.op = null;
    this.turn = (this.turn ?? 0) + 1;
    document.body.classList.remove("split");
    this.onClose();
  }

  write(op, runs, trouble) {
    const close = el("button", { type: "button", class: "close", textContent: "Close", title: "Escape" });
    close.addEventListener("click", () => this.close());
    const isGone = op.outcome === "waiting" && !this.model.ops.has(op.key);
    this.box.replaceChildren(...[
      close,
      el("h2", { textContent: `Job ${op.job}${op.opCount > 1 ? `, opcode ${op.op} of 0\u2013${op.opCount - 1}` : ""}` }),
      el("div", { textContent: plain(op.code) }),
      op.object && el("bdi", { textContent: plain(op.object) }),
      el("div", { class: `outcome ${op.outcome}` }, icon(op.outcome), isGone ? "waits no more" : outcomeWords(op)),
      op.outcome === "disappeared" && el("p", { class: "what dead", textContent: `The job process died while the opcode was under way. ${locksWords(op)} How far it came nobody knows.` }),
      op.outcome === "waiting" && el("p", { class: "what waits", textContent: isGone ? "It was canceled, or its event is still to come." : "It waits for its locks. On the master \u201cganeti-hookd locks\u201d says which these are, and who has them." }),
      op.error && el("p", { class: "what", dir: "auto", textContent: plain(op.error) }),
      el("h3", { textContent: "Course" }),
      this.course(op),
      op.reason.length ? el("h3", { textContent: "Who asked, and why" }) : null,
      op.reason.length ? el("ul", { class: "trail" }, ...op.reason.map(entry => el("li", null, el("span", { class: "source", textContent: plain(entry[0]) }), el("bdi", { textContent: plain(entry[1]) }), " ", el("span", { class: "quiet", textContent: entry[2] ? stamp(entry[2]) : "" })))) : null,
      ...this.family(op),
      ...this.hooks(op, runs, trouble),
      el("h3", { textContent: "Names" }),
      el("dl", null, ...[op.events.pre || op.events.wait, op.events.post].filter(Boolean).flatMap(event => pair(event.phase, plain(event.id)))),
    ].filter(Boolean));
  }

  course(op) {
    const end = op.isOpen ? null : op.ended ?? op.noticed;
    return el("dl", null, ...[
      ["submitted", stamp(op.received), ""],
      ["started", stamp(op.started), op.started != null && `queued ${duration(op.started - op.from)}`],
      ["got its locks", stamp(op.executed), op.lockWait != null && `waited ${duration(op.lockWait)}`],
      ["held", op.held == null ? "" : duration(op.held), "for its pre hooks"],
      [op.outcome === "disappeared" ? "death noticed" : "ended", stamp(end), op.execution != null && `executed ${duration(op.execution)}`],
    ].filter(([, text]) => text).flatMap(([name, text, more]) => pair(name, text, more)));
  }

  // The job that submitted this one, and those that this one submitted.
  family(op) {
    const all = [...this.model.ops.values()];
    const children = all.filter(other => other.parent && other.parent.job === op.job && other.parent.op === op.op && other.received >= op.received && other.op === 0);
    const found = [];
    if (op.parent) {
      const { job, op: at } = op.parent;
      const parent = all.filter(other => other.job === job && other.op === at && other.received <= op.received).sort((a, b) => b.received - a.received)[0];
      found.push(el("h3", { textContent: "Submitted by" }), this.link(`job ${job}, opcode ${at}`, parent));
    }
    if (children.length) {
      found.push(el("h3", { textContent: "Has submitted" }));
      for (const child of children.slice(0, 50)) found.push(el("div", null, this.link(`job ${child.job}`, child), ` ${plain(child.name)} `, el("bdi", { textContent: plain(child.object) }), ` ${child.outcome}`));
      if (children.length > 50) found.push(el("div", { class: "quiet", textContent: `and ${children.length - 50} more` }));
    }
    return found;
  }

  link(text, op) {
    if (!op) return el("span", { textContent: `${text} (not in what is shown)` });
    const link = el("button", { type: "button", class: "link", textContent: text });
    link.addEventListener("click", () => this.follow(op));
    return link;
  }

  hooks(op, full, trouble) {
    const runs = full ?? op.runs;
    const found = [];
    for (const phase of ["pre", "post"]) {
      const event = op.events[phase];
      const own = runs.filter(run => run.phase === phase);
      if (!event && !own.length) continue;
      const late = event && event.late ? " (late: its moment had passed)" : "";
      const words = { pending: "not all have ended", standby: "another node\u2019s to run", done: "" }[event?.state] ?? "";
      found.push(el("h3", { textContent: `Hooks, ${phase}${late}${words ? ` \u2013 ${words}` : ""}` }));
      if (!own.length) found.push(el("p", { class: "quiet", textContent: "no script ran" }));
      found.push(...own.map(run => this.run(run, own, full != null)));
    }
    if (trouble) found.push(el("p", { class: "what", textContent: `The outputs cannot be had now: ${plain(trouble)}` }));
    return found;
  }

  run(run, all, isWhole) {
    const isBad = hasFailed(run);
    const took = run.seconds == null ? "" : duration(run.seconds);
    const script = isRequest(run) ? `${run.script} (the whole directory)` : `${run.directory ? `${run.directory}/` : ""}${run.script}`;
    const result = runResult(run);
    const box = el("article", { class: `run ${isBad ? "bad" : run.ended ? "good" : ""}` },
      el("header", null, icon(isBad ? "failed" : run.ended ? "succeeded" : run.over ? "hooks" : "running"), el("bdi", { textContent: plain(script) }), el("span", { class: "result", textContent: result }),
        el("span", { class: "where" }, "on ", el("bdi", { textContent: plain(run.node) }), ` \u00b7 ${stamp(run.started)}${took ? ` \u00b7 ${took}` : ""}${run.attempt > 1 ? ` \u00b7 attempt ${run.attempt}` : ""}`)),
      this.place(run, all));
    if (run.error != null) box.append(el("p", { dir: "auto", textContent: plain(run.error) }));
    if (isWhole && run.output) box.append(el("pre", { tabIndex: 0, "aria-label": "output", textContent: plainLines(run.output) }));
    else if (!isWhole && run.ended) box.append(el("p", { class: "left", textContent: "output \u2026" }));
    if (isWhole && run.dropped) box.append(el("p", { class: "left", textContent: `${run.dropped} more bytes of output are not here` }));
    return box;
  }

  // When it ran, among the others of its phase.
  place(run, all) {
    const now = Date.now() / 1000;
    const from = Math.min(...all.map(other => other.started));
    const to = Math.max(...all.map(other => runEnd(other, now)), from + 0.001);
    const bar = el("i");
    bar.style.left = `${((run.started - from) / (to - from)) * 100}%`;
    bar.style.width = `${Math.max(0.5, ((runEnd(run, now) - run.started) / (to - from)) * 100)}%`;
    return el("div", { class: "span", "aria-hidden": "true" }, bar);
  }
}

function pair(name, text, more) {
  return [el("dt", { textContent: name }), el("dd", null, text, more ? el("span", { class: "more", textContent: more }) : null)];
}

function outcomeWords(op) {
  const more = [];
  if (!op.begun) more.push("did not begin to execute");
  if (op.pending) more.push("hooks have not all ended");
  if (op.hooksFailed) more.push("a hook failed");
  return [outcomeWord(op), ...more].join(" \u2013 ");
}

// What becomes of the locks of a job that died.
function locksWords(op) {
  if (op.events.post?.told_ganeti) return "Ganeti was told so, and frees the job\u2019s locks.";
  return "Ganeti notices after about five minutes, and the job\u2019s locks stay taken until then.";
}

function runResult(run) {
  if (!run.ended) return run.over ? "interrupted" : "running";
  if (run.error != null && run.code == null && run.signal == null) return "failed";
  if (run.signal != null) return `signal ${run.signal}`;
  return run.code === 0 ? (run.error != null ? "failed" : "ok") : `exit ${run.code ?? "?"}`;
}
