"""The service under test: one process for all tests, in a data directory of its own."""

import atexit
import json
import os
import urllib.error
import urllib.request

from program import Program


class Service:
    """A running service: one that is started here, or one that somebody else runs."""

    def __init__(self):
        self.endpoint = os.environ.get("CINDERBLOCK_ENDPOINT")
        if not self.endpoint:
            program = Program("clients")
            atexit.register(program.close)
            program.start("--api-listen", f"127.0.0.1:{program.port}")
            self.endpoint = f"{program.root}/v3"
        self.root = self.endpoint.removesuffix("/v3")

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


_service = None


def service():
    """The one service of this test run."""
    global _service
    if _service is None:
        _service = Service()
    return _service
