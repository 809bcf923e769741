"""Keystone's own application behind a small threaded server, for one test run.

    python serve.py KEYSTONE_CONF PORT [CERTIFICATE KEY TLS_PORT]

Serves until it is told to end. Prints the ports it listens on, one line, when it answers. Port 0 is a free one.
"""

import logging
import os
import sys
import threading

import werkzeug.serving


def main():
    conf, port, *tls = sys.argv[1:]
    # Keystone would read our command line as its own.
    del sys.argv[1:]
    os.environ["OS_KEYSTONE_CONFIG_FILES"] = conf
    # Reads the configuration when it is imported.
    from keystone.wsgi.api import application

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    listeners = [(port, None)]
    if tls:
        certificate, key, tls_port = tls
        listeners.append((tls_port, (certificate, key)))
    ports = []
    for port, context in listeners:
        server = werkzeug.serving.make_server("127.0.0.1", int(port), application, threaded=True, ssl_context=context)
        ports.append(str(server.server_port))
        threading.Thread(target=server.serve_forever, daemon=True).start()
    print(" ".join(ports), flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
