"""`cinderblock serve` as a process of its own, for tests that drive it from outside."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

START_LIMIT_S = 30
STOP_LIMIT_S = 30


class Program:
    """A running `cinderblock serve` with a folder of its own; ends with `close`.

    `CINDERBLOCK_BIN` is the binary to start; with `CINDERBLOCK_KEEP` set, the folder stays.
    """

    def __init__(self, name):
        self.folder = tempfile.mkdtemp(prefix=f"cinderblock-{name}-")
        self.log_path = os.path.join(self.folder, "serve.log")
        self.port = free_port()
        self.root = f"http://127.0.0.1:{self.port}"
        self.process = None

    def start(self, *words):
        """Starts it with these words behind `serve` and waits until it answers."""
        command = [
            os.environ.get("CINDERBLOCK_BIN", "cinderblock"), "serve",
            "--data-dir", os.path.join(self.folder, "data"),
            "--iscsi-listen", f"127.0.0.1:{free_port()}",
            *words,
        ]
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + START_LIMIT_S
        while not self.is_up():
            ended = self.process.poll()
            if ended is not None or time.monotonic() > deadline:
                log = self.log()
                self.close()
                how = "does not answer" if ended is None else f"ended with {ended}"
                raise RuntimeError(f"the service {how}:\n{log}")
            time.sleep(0.05)

    def is_up(self):
        try:
            with urllib.request.urlopen(f"{self.root}/healthcheck", timeout=2) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as log:
            return log.read()[-8000:]

    def close(self):
        """Stops it, and fails when it does not stop by itself."""
        try:
            if self.process is not None and self.process.poll() is None:
                self.process.send_signal(signal.SIGTERM)
                self.process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            if os.environ.get("CINDERBLOCK_KEEP"):
                print(f"kept {self.folder}")
            else:
                shutil.rmtree(self.folder, ignore_errors=True)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(look, done, what, limit_s=60):
    """Asks `look` until `done` says so of what it returns; an error status ends the waiting at once."""
    deadline = time.monotonic() + limit_s
    pause = 0.02
    while True:
        seen = look()
        if done(seen):
            return seen
        if isinstance(seen, str) and seen.startswith("error"):
            raise AssertionError(f"{what} is in status {seen}")
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} is still {seen!r} after {limit_s} s")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.5)
