"""As much of a compute service as `openstack volume attachment create` asks for: that a server exists."""

import http.server
import json
import threading


class Compute:
    """Answers that there is a server of any id; ends with `close`."""

    def __init__(self):
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}/v2.1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class Answers(http.server.BaseHTTPRequestHandler):
    """GET only: the version, and servers."""

    def do_GET(self):  # the name is the base class's
        path = self.path.split("?")[0].rstrip("/")
        if path.startswith("/v2.1/servers/") and not path.endswith("/detail"):
            self.answer({"server": {"id": path.rsplit("/", 1)[1], "name": "a server", "status": "ACTIVE"}})
        elif path.startswith("/v2.1/servers"):
            self.answer({"servers": []})
        else:
            link = {"rel": "self", "href": f"http://127.0.0.1:{self.server.server_port}/v2.1/"}
            self.answer({"version": {"id": "v2.1", "status": "CURRENT", "version": "2.1", "min_version": "2.1",
                                     "links": [link]}})

    def answer(self, body):
        text = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *words):
        """Says nothing."""
