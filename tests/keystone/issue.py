"""Prints a token that is already over, issued by Keystone itself.

    python issue.py KEYSTONE_CONF USER PASSWORD PROJECT
"""

import os
import sys

import werkzeug.test


def main():
    conf, user, password, project = sys.argv[1:]
    # Keystone would read our command line as its own.
    del sys.argv[1:]
    os.environ["OS_KEYSTONE_CONFIG_FILES"] = conf
    from keystone.wsgi.api import application

    import keystone.conf

    keystone.conf.CONF.set_override("expiration", 0, group="token")
    domain = {"id": "default"}
    body = {"auth": {
        "identity": {"methods": ["password"], "password": {"user": {"name": user, "domain": domain, "password": password}}},
        "scope": {"project": {"name": project, "domain": domain}},
    }}
    answer = werkzeug.test.Client(application).post("/v3/auth/tokens", json=body)
    if answer.status_code != 201:
        raise SystemExit(answer.get_data(as_text=True))
    print(answer.headers["X-Subject-Token"])


if __name__ == "__main__":
    main()
