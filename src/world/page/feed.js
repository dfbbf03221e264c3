// The feed of the daemon that this page came from.

// A stream says something every 30 s. One that says nothing for so long is dead.
const SILENCE_MAX = 75000;
const PAUSE_MIN = 1000;
const PAUSE_MAX = 30000;

class Feed {
  // `tell` gets lists of what came, `say` how it stands.
  constructor(since, tell, say) {
    Object.assign(this, { since, tell, say, cursor: null, pause: PAUSE_MIN, abort: new AbortController(), isOver: false });
  }

  stop() {
    this.isOver = true;
    this.abort.abort();
  }

  async run() {
    while (!this.isOver) {
      try {
        await this.read();
        if (!this.isOver) this.say("lost", "The daemon has ended the connection. Connecting again");
      } catch (error) {
        if (this.isOver) return;
        this.say("lost", `Not connected (${error.message}). Trying again in ${Math.round(this.pause / 1000)} s`);
      }
      await new Promise(resolve => setTimeout(resolve, this.pause));
      this.pause = Math.min(this.pause * 2, PAUSE_MAX);
    }
  }

  async read() {
    this.abort = new AbortController();
    const query = new URLSearchParams({ stream: "1", output: "0" });
    if (this.since) query.set("since", this.since.toFixed(0));
    if (this.cursor) query.set("after", this.cursor);
    const silence = watchdog(SILENCE_MAX, () => this.abort.abort(new Error("nothing heard for a while")));
    try {
      const answer = await fetch(`/v1/events?${query}`, { signal: this.abort.signal, cache: "no-store" });
      if (answer.status === 410) return this.isLost(await answer.json());
      if (!answer.ok) throw new Error(await problem(answer));
      this.pause = PAUSE_MIN;
      this.cursor = answer.headers.get("Ganeti-Hookd-Cursor") ?? this.cursor;
      this.say("live", "");
      for await (const lines of linesOf(answer.body)) {
        silence.again();
        this.take(lines);
      }
    } finally {
      silence.stop();
    }
  }

  take(lines) {
    const told = [];
    for (const line of lines) {
      const one = JSON.parse(line);
      if (one.type === "heartbeat") this.cursor = one.cursor;
      else if (one.type === "gap" && one.lost) this.isLost(one);
      else told.push(one);
    }
    this.tell(told);
  }

  // What came after our place is gone: nobody is led over that without being told.
  isLost({ detail, oldest }) {
    this.cursor = oldest;
    this.tell([{ type: "lost", detail }]);
  }
}

// The whole lines of a stream, as many at a time as have come.
async function* linesOf(stream) {
  const reader = stream.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + decoder.decode(value, { stream: true })).split("\n");
    rest = lines.pop();
    if (lines.length) yield lines;
  }
}

function watchdog(milliseconds, bark) {
  let timer = setTimeout(bark, milliseconds);
  return {
    again() {
      clearTimeout(timer);
      timer = setTimeout(bark, milliseconds);
    },
    stop: () => clearTimeout(timer),
  };
}

// What a problem (RFC 9457) says.
async function problem(answer) {
  const text = await answer.text();
  try {
    return plain(JSON.parse(text).detail);
  } catch {
    return `HTTP status ${answer.status}`;
  }
}

const records = async answer => (await answer.text()).split("\n").filter(Boolean).map(line => JSON.parse(line));

// What waits for its locks now.
async function waiting() {
  const answer = await fetch("/v1/waiting", { cache: "no-store" });
  if (!answer.ok) throw new Error(await problem(answer));
  return records(answer);
}

// Everything that the history has of an opcode, with its runs' outputs.
async function whole(op) {
  const runs = [];
  let after = null;
  for (;;) {
    const query = new URLSearchParams({ job: op.job });
    if (after) query.set("after", after);
    const answer = await fetch(`/v1/events?${query}`, { cache: "no-store" });
    if (!answer.ok) throw new Error(await problem(answer));
    const next = answer.headers.get("Ganeti-Hookd-Cursor");
    const events = (await records(answer)).filter(event => !event.type);
    for (const event of events) {
      if (opcodeKey(event) !== op.key) continue;
      // It may come again, changed.
      for (let at = runs.length; at--;) if (runs[at].phase === event.phase) runs.splice(at, 1);
      runs.push(...runsOf(event));
    }
    if (!events.length || next === after) return runs;
    after = next;
  }
}
