"""A compute service that is asked which attachment a server uses a volume by, and writes down who asked."""

import http.server
import json
import threading


class Compute:
    """Answers until `close`. `uses` maps (server, volume) to the attachment."""

    def __init__(self, port=0):
        self.uses, self.asked = {}, []
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Answers)
        self.server.compute = self
        self.port = self.server.server_port
        self.url = f"http://127.0.0.1:{self.port}/v2.1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class Answers(http.server.BaseHTTPRequestHandler):
    """`GET /servers/{server}/os-volume_attachments/{volume}` of microversion 2.89."""

    def do_GET(self):  # the name is the base class's
        compute = self.server.compute
        compute.asked.append((self.path, self.headers["X-Auth-Token"], self.headers["OpenStack-API-Version"]))
        _, version, servers, server, attachments, volume = self.path.split("/")
        attachment = compute.uses.get((server, volume))
        if (version, servers, attachments) != ("v2.1", "servers", "os-volume_attachments") or attachment is None:
            return self.answer(404, {"itemNotFound": {"code": 404, "message": "no such thing"}})
        body = {"attachment_id": attachment, "serverId": server, "volumeId": volume, "device": "/dev/vdb"}
        return self.answer(200, {"volumeAttachment": body})

    def answer(self, status, body):
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *words):
        """Says nothing."""
