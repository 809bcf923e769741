"""The service under test: `cinderblock serve` with `auth_strategy = keystone`."""

import json
import os
import urllib.error
import urllib.request

from program import Program

from .identity import PASSWORD

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


class Service(Program):
    """A running `cinderblock serve`; ends with `close`."""

    def __init__(self, auth_url, password=PASSWORD, more="", roles=()):
        super().__init__("keystone")
        conf = os.path.join(self.folder, "cinder.conf")
        with open(conf, "w", encoding="utf-8") as file:
            file.write(CONF.format(
                port=self.port, folder=self.folder, auth_url=auth_url, password=password, more=more,
            ))
        self.start("--config-file", conf, *[word for role in roles for word in ("--role", role)])

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
