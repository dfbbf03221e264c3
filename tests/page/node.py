"""A master's directories with the real daemon beside them, and a TCP port that leads to its socket.

The port stands for `ssh -L PORT:/run/ganeti-hookd/hookd.sock MASTER`.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

NODE = "node1.example.com"
CLUSTER = "cluster.example.com"
PATIENCE = 30.0


def moment(seconds):
    """A time as Ganeti writes it."""
    return [int(seconds), int(seconds % 1 * 1e6)]


def wait_for(look, what):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if found := look():
            return found
        time.sleep(0.02)
    raise AssertionError(f"this did not come: {what}")


class Node:
    def __init__(self, program):
        self.program = program
        self.dir = tempfile.mkdtemp(prefix="hookd-page-node-")
        for name in ("queue/archive", "data", "hooks/global-pre.d", "hooks/global-post.d", "run/livelocks", "state"):
            os.makedirs(self.path(name))
        self.put("data/ssconf_master_node", NODE + "\n")
        self.put("data/ssconf_cluster_name", CLUSTER + "\n")
        paths = {
            "queue-dir": "queue",
            "data-dir": "data",
            "hooks-dir": "hooks",
            "ganeti-run-dir": "run",
            "state-dir": "state",
            "run-dir": "hookd",
        }
        lines = [f"{key} = {json.dumps(self.path(name))}\n" for key, name in paths.items()]
        rest = f'[master]\nname = "{NODE}"\n[hooks]\npre = "notify"\n'
        self.put("hookd.toml", "[paths]\n" + "".join(lines) + rest)
        self.process = None
        self.bridge = Bridge(self.path("hookd/hookd.sock"))
        self.url = f"http://localhost:{self.bridge.port}"

    def path(self, name):
        return os.path.join(self.dir, name)

    def put(self, name, text):
        """Puts a file in place as Ganeti does: by rename."""
        path = self.path(name)
        with open(path + ".new", "w", encoding="utf-8") as file:
            file.write(text)
        os.rename(path + ".new", path)

    def hook(self, phase, name, body):
        path = self.path(f"hooks/global-{phase}.d/{name}")
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"#!/bin/sh\n{body}\n")
        os.chmod(path, 0o755)

    def run(self, *words):
        """What a command of the program prints."""
        command = [self.program, "--config", self.path("hookd.toml"), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def start(self):
        """Starts the daemon, and waits until it watches the queue: what has ended by then is history."""
        with open(self.path("log"), "a", encoding="utf-8") as log:
            begin = log.tell()
            self.process = subprocess.Popen(
                [self.program, "--config", self.path("hookd.toml"), "run"], stdout=log, stderr=log
            )
        wait_for(lambda: self.answers() and self.is_ready(begin), f"the daemon; {self.log()}")

    def answers(self):
        assert self.process.poll() is None, self.log()
        try:
            with socket.socket(socket.AF_UNIX) as peer:
                peer.connect(self.path("hookd/hookd.sock"))
                return True
        except OSError:
            return False

    def is_ready(self, begin):
        with open(self.path("log"), encoding="utf-8") as log:
            log.seek(begin)
            return " ready: " in log.read()

    def log(self):
        with open(self.path("log"), encoding="utf-8") as log:
            return log.read()[-2000:]

    def stop(self):
        if self.process:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(PATIENCE)
            self.process = None

    def close(self):
        self.stop()
        self.bridge.close()
        shutil.rmtree(self.dir, ignore_errors=True)


class Job:
    """A job of one opcode, one version of its file at a time."""

    def __init__(self, node, number, code, **given):
        self.node, self.number = node, number
        now = time.time()
        self.op = {
            "input": {"OP_ID": code, "priority": 0, "debug_level": 0, "dry_run": None, "reason": [], **given},
            "status": "queued",
            "result": None,
            "log": [],
            "priority": 0,
            "start_timestamp": None,
            "exec_timestamp": None,
            "end_timestamp": None,
        }
        self.file = {
            "id": number,
            "ops": [self.op],
            "received_timestamp": moment(now),
            "start_timestamp": None,
            "end_timestamp": None,
            "livelock": None,
            "process_id": None,
        }

    def put(self):
        self.node.put(f"queue/job-{self.number}", json.dumps(self.file))
        return self

    def waits(self):
        now = moment(time.time())
        self.op.update(status="waiting", start_timestamp=now)
        self.file["start_timestamp"] = now
        return self.put()

    def runs(self, process=None):
        """Executes, in this process if one is given: one that has ended is a job that died."""
        if process:
            self.file["livelock"] = self.node.path(f"run/livelocks/job_{self.number}")
            self.file["process_id"] = process.pid
        self.op.update(status="running", exec_timestamp=moment(time.time()))
        return self.put()

    def ends(self, status="success", result=True):
        now = moment(time.time())
        self.op.update(status=status, result=result, end_timestamp=now)
        self.file["end_timestamp"] = now
        return self.put()


class Bridge:
    """Leads from a TCP port of this machine to a Unix socket."""

    def __init__(self, path):
        self.path = path
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        self.accepted = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                peer, _ = self.server.accept()
            except OSError:
                return
            self.accepted += 1
            try:
                ours = socket.socket(socket.AF_UNIX)
                ours.connect(self.path)
            except OSError:
                peer.close()
                continue
            for source, sink in ((peer, ours), (ours, peer)):
                threading.Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    @staticmethod
    def _pass_on(source, sink):
        try:
            while data := source.recv(1 << 18):
                sink.sendall(data)
        except OSError:
            pass
        for end, how in ((sink, socket.SHUT_WR), (source, socket.SHUT_RD)):
            try:
                end.shutdown(how)
            except OSError:
                pass

    def close(self):
        self.server.close()
