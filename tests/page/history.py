"""A journal with the history of a busy day, as the daemon would have written it.

It is put into the tables that the daemon has made: when the journal's schema changes, this fails.
"""

import json
import random
import sqlite3

CODES = [
    ("OP_INSTANCE_STARTUP", "INSTANCE", 40, 3),
    ("OP_INSTANCE_SHUTDOWN", "INSTANCE", 30, 20),
    ("OP_INSTANCE_REBOOT", "INSTANCE", 25, 8),
    ("OP_INSTANCE_MIGRATE", "INSTANCE", 22, 45),
    ("OP_INSTANCE_CREATE", "INSTANCE", 8, 90),
    ("OP_INSTANCE_REPLACE_DISKS", "INSTANCE", 4, 300),
    ("OP_BACKUP_EXPORT", "INSTANCE", 3, 500),
    ("OP_NODE_SET_PARAMS", "NODE", 4, 2),
    ("OP_CLUSTER_VERIFY_GROUP", "GROUP", 5, 25),
    ("OP_TAGS_SET", "INSTANCE", 15, 0.2),
    ("OP_GROUP_VERIFY_DISKS", "GROUP", 60, 1),
    ("OP_QUERY", None, 12, 0.1),
]
REASONS = [["gnt:user", "kernel update"], ["gnt:user", "ticket 4711"], ["gnt:watcher", "gnt-watcher"], ["gnt:user", "customer asked for it"]]
SCRIPTS = ["10-log", "20-dns", "30-monitoring"]


def micros(seconds):
    return int(seconds * 1e6)


class Journal:
    def __init__(self, path):
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("BEGIN")
        last = self.db.execute("SELECT (SELECT coalesce(max(seq), 0) FROM events), (SELECT coalesce(max(change), 0) FROM changes)").fetchone()
        self.seq, self.change = last
        self.run = self.db.execute("SELECT coalesce(max(id), 0) FROM runs").fetchone()[0]
        uuid = "11111111-2222-3333-4444-555555555555"
        self.db.execute("INSERT OR IGNORE INTO clusters (uuid) VALUES (?)", (uuid,))
        self.cluster = self.db.execute("SELECT id FROM clusters").fetchone()[0]

    def event(self, **columns):
        self.seq += 1
        self.change += 1
        columns |= {"seq": self.seq, "change": self.change, "cluster": self.cluster}
        names = ", ".join(columns)
        marks = ", ".join("?" * len(columns))
        self.db.execute(f"INSERT INTO events ({names}) VALUES ({marks})", list(columns.values()))
        self.db.execute("INSERT INTO changes (change, seq) VALUES (?, ?)", (self.change, self.seq))
        return self.seq

    def script(self, seq, phase, script, started, seconds, code=0, output="", node="node1.example.com", **more):
        self.run += 1
        columns = {
            "seq": seq,
            "id": self.run,
            "node": node,
            "directory": f"global-{phase}.d",
            "script": script,
            "attempt": 1,
            "started": micros(started),
            "ended": micros(started + seconds),
            "code": code,
            "seconds": seconds,
            "output": output,
            "dropped": 0,
        } | more
        names = ", ".join(columns)
        marks = ", ".join("?" * len(columns))
        self.db.execute(f"INSERT INTO runs ({names}) VALUES ({marks})", list(columns.values()))

    def close(self):
        self.db.execute("COMMIT")
        self.db.close()


def write(path, jobs, now, seed=1):
    """So many jobs within the last day, the last of them a minute ago."""
    chance = random.Random(seed)
    journal = Journal(path)
    times = sorted(now - 60 - chance.random() * 86_000 for _ in range(jobs))
    weights = [weight for _, _, weight, _ in CODES]
    for number, received in enumerate(times, 1):
        job(journal, chance, 100 + number, received, now, chance.choices(CODES, weights)[0])
    journal.close()


def job(journal, chance, number, received, now, kind):
    code, what, _, usual = kind
    ops = 3 if code == "OP_INSTANCE_MIGRATE" and chance.random() < 0.2 else 1
    before = None
    for op in range(ops):
        name = {"INSTANCE": f"web{chance.randrange(80)}.example.com", "NODE": f"node{chance.randrange(12)}.example.com", "GROUP": "default", None: None}[what]
        started = (before or received) + chance.expovariate(4)
        executed = started + (chance.expovariate(1 / 6) if chance.random() < 0.25 else 0.03)
        held = 0.05 + chance.random() * 0.4
        ended = min(executed + held + chance.lognormvariate(0, 0.7) * usual, now - 1)
        ended = max(ended, executed + held)
        luck = chance.random()
        status = "disappeared" if luck < 0.002 else "failed" if luck < 0.04 else "succeeded"
        reason = chance.choice(REASONS)
        common = {
            "job": number,
            "received": micros(received),
            "op": op,
            "op_count": ops,
            "op_code": code,
            "executed": 1,
            "late": 0,
            "state": "done",
            "object_type": what,
            "object": name,
            "previous_end": micros(before) if before else None,
            "started": micros(started),
            "executed_at": micros(executed),
            "reason": json.dumps([["gnt:client:gnt-instance", "migrate", received], [*reason, received]]),
        }
        pre = journal.event(**common, phase="pre", time=micros(executed), held=micros(held))
        journal.script(pre, "pre", "10-check", executed + 0.01, held * 0.8, output="ok\n")
        error = "Error while executing: node node3.example.com is not reachable" if status == "failed" else None
        end = None if status == "disappeared" else micros(ended)
        post = journal.event(**common, phase="post", status=status, time=micros(ended + 0.01), ended=end, error=error)
        for script in SCRIPTS:
            code_of_script = 1 if chance.random() < 0.01 else 0
            journal.script(post, "post", script, ended + 0.02, 0.02 + chance.random() * 0.3, code_of_script, f"{script} said so\n")
        before = ended
        if status != "succeeded":
            return
