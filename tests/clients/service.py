"""The service under test: one process for all tests, in a data directory of its own."""

import atexit
import json
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


class Service:
    """A running `cinderblock serve`, or one that somebody else runs."""

    def __init__(self):
        self.process = None
        self.endpoint = os.environ.get("CINDERBLOCK_ENDPOINT")
        if self.endpoint:
            return
        self.binary = os.environ.get("CINDERBLOCK_BIN", "cinderblock")
        self.folder = tempfile.mkdtemp(prefix="cinderblock-clients-")
        self.log_path = os.path.join(self.folder, "serve.log")
        self.api_port = free_port()
        self.iscsi_port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.api_port}/v3"
        self.start()

    @property
    def root(self):
        return self.endpoint.removesuffix("/v3")

    def start(self):
        """Starts it and waits until it answers."""
        command = [
            self.binary, "serve",
            "--data-dir", os.path.join(self.folder, "data"),
            "--api-listen", f"127.0.0.1:{self.api_port}",
            "--iscsi-listen", f"127.0.0.1:{self.iscsi_port}",
        ]
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + START_LIMIT_S
        while not self.is_up():
            if self.process.poll() is not None:
                raise RuntimeError(f"the service ended with {self.process.returncode}:\n{self.log()}")
            if time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"the service does not answer:\n{self.log()}")
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

    def stop(self, number=signal.SIGTERM):
        """Stops it; returns its exit status."""
        if self.process is None or self.process.poll() is not None:
            return None
        self.process.send_signal(number)
        try:
            return self.process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def close(self):
        if self.process is None:
            return
        try:
            self.stop()
        finally:
            if os.environ.get("CINDERBLOCK_KEEP"):
                print(f"kept {self.folder}")
            else:
                shutil.rmtree(self.folder, ignore_errors=True)

    def get(self, path):
        """The JSON answer to a plain request."""
        with urllib.request.urlopen(f"{self.root}{path}", timeout=30) as answer:
            return json.load(answer)

    def status(self, kind, resource):
        """The status of a volume, snapshot or backup; `None` when there is none."""
        try:
            return self.get(f"/v3/{kind}s/{resource}")[kind]["status"]
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


_service = None


def service():
    """The one service of this test run."""
    global _service
    if _service is None:
        _service = Service()
        atexit.register(_service.close)
    return _service


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
