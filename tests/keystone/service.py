"""The service under test: `cinderblock serve` with `auth_strategy = keystone`."""

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

from .identity import PASSWORD

START_LIMIT_S = 30
STOP_LIMIT_S = 30

CONF = """\
[DEFAULT]
auth_strategy = keystone
transport_url = none://
enabled_backends = local
osapi_volume_listen = 127.0.0.1
osapi_volume_listen_port = {port}
backup_driver = cinder.backup.drivers.posix.PosixBackupDriver
backup_posix_path = {folder}/backup
[local]
volume_driver = file
file_directory = {folder}/volumes
[keystone_authtoken]
www_authenticate_uri = http://keystone.example/identity
auth_url = {auth_url}
auth_type = password
username = cinder
password = {password}
project_name = service
user_domain_name = Default
project_domain_name = Default
{more}
"""


class Answer:
    """Status, headers and document of an answer."""

    def __init__(self, status, headers, body):
        self.status = status
        self.headers = headers
        self.text = body.decode(errors="replace")

    @property
    def json(self):
        return json.loads(self.text)


class Service:
    """A running `cinderblock serve`; ends with `close`."""

    def __init__(self, auth_url, password=PASSWORD, more="", roles=()):
        self.folder = tempfile.mkdtemp(prefix="cinderblock-service-")
        self.log_path = os.path.join(self.folder, "serve.log")
        self.port = free_port()
        conf = os.path.join(self.folder, "cinder.conf")
        with open(conf, "w", encoding="utf-8") as file:
            file.write(CONF.format(
                port=self.port, folder=self.folder, auth_url=auth_url, password=password, more=more,
            ))
        self.words = [
            os.environ.get("CINDERBLOCK_BIN", "cinderblock"), "serve",
            "--data-dir", os.path.join(self.folder, "data"),
            "--config-file", conf,
            "--iscsi-listen", f"127.0.0.1:{free_port()}",
            *[word for role in roles for word in ("--role", role)],
        ]
        self.process = None
        self.start()

    @property
    def root(self):
        return f"http://127.0.0.1:{self.port}"

    def start(self):
        """Starts it and waits until it answers."""
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.words, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
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
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if os.environ.get("CINDERBLOCK_KEEP"):
            print(f"kept {self.folder}")
        else:
            shutil.rmtree(self.folder, ignore_errors=True)

    def call(self, method, path, token=None, body=None, **headers):
        """One request, whatever its answer."""
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        headers |= {"X-Auth-Token": token} if token is not None else {}
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        request = urllib.request.Request(f"{self.root}{path}", data=data, headers=headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return Answer(answer.status, answer.headers, answer.read())
        except urllib.error.HTTPError as error:
            return Answer(error.code, error.headers, error.read())


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(look, done, what, limit_s=60):
    """Asks `look` until `done` says so of what it returns."""
    deadline = time.monotonic() + limit_s
    pause = 0.02
    while True:
        seen = look()
        if done(seen):
            return seen
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} is still {seen!r} after {limit_s} s")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.5)
