"""A real Keystone: installed from PyPI, on SQLite and Fernet tokens, on loopback, gone after the tests."""

import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
LIMIT_S = 60
PASSWORD = "correct horse"
REGION = "RegionOne"
DOMAIN = {"id": "default"}

#: Users, their project, the role they have there. Keystone itself knows that a member is a reader too.
USERS = [
    ("cinder", "service", "service"),
    ("nova", "service", "service"),
    ("alice", "blue", "member"),
    ("rita", "blue", "reader"),
    ("bob", "red", "member"),
]

CONF = """\
[DEFAULT]
log_file = {folder}/keystone.log
[database]
connection = sqlite:///{folder}/keystone.db
[token]
provider = fernet
expiration = 3600
[fernet_tokens]
key_repository = {folder}/fernet
[fernet_receipts]
key_repository = {folder}/fernet
[credential]
key_repository = {folder}/credentials
[identity]
password_hash_rounds = 4
[cache]
enabled = false
"""


class Refused(Exception):
    """An answer of 400 or more; its status and text."""

    def __init__(self, status, text):
        super().__init__(f"{status}: {text}")
        self.status = status


class Keystone:
    """One identity service with its users; `stop` and `start` as often as a test likes."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="cinderblock-keystone-")
        self.process = None
        self.port = self.tls_port = 0
        self.conf = os.path.join(self.folder, "keystone.conf")
        with open(self.conf, "w", encoding="utf-8") as conf:
            conf.write(CONF.format(folder=self.folder))
        self.certificate, self.key, self.authority = certificates(self.folder)
        atexit.register(self.close)
        self.prepare()
        self.start()
        self.fill()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/v3"

    @property
    def tls_url(self):
        return f"https://127.0.0.1:{self.tls_port}/v3"

    def prepare(self):
        """Database, keys, and the administrator."""
        manage = [os.path.join(os.path.dirname(sys.executable), "keystone-manage"), "--config-file", self.conf]
        steps = [
            [[*manage, "db_sync"], [*manage, "fernet_setup", "--keystone-user", user(), "--keystone-group", group()]],
            [[*manage, "bootstrap", "--bootstrap-password", PASSWORD]],
        ]
        for together in steps:
            running = [subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for words in together]
            for process in running:
                said, _ = process.communicate(timeout=LIMIT_S)
                if process.returncode != 0:
                    raise RuntimeError(said.decode(errors="replace"))

    def start(self):
        """Starts it, on the ports that it had before."""
        words = [sys.executable, os.path.join(HERE, "serve.py"), self.conf, str(self.port)]
        words += [self.certificate, self.key, str(self.tls_port)]
        log = open(os.path.join(self.folder, "serve.log"), "ab")
        with log:
            self.process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=log, stdin=subprocess.DEVNULL)
        ports = self.process.stdout.readline().split()
        if len(ports) != 2:
            raise RuntimeError(f"Keystone does not start; see {log.name}")
        self.port, self.tls_port = (int(port) for port in ports)

    def stop(self):
        """Ends its process."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()
            self.process = None

    def close(self):
        self.stop()
        if os.environ.get("CINDERBLOCK_KEEP"):
            print(f"kept {self.folder}")
        else:
            shutil.rmtree(self.folder, ignore_errors=True)

    def call(self, method, path, body=None, token=None, subject=None):
        """One request; the answer's headers and document."""
        headers = {"Content-Type": "application/json"}
        headers |= {"X-Auth-Token": token} if token else {}
        headers |= {"X-Subject-Token": subject} if subject else {}
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(f"{self.url}{path}", data=data, headers=headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=LIMIT_S) as answer:
                text = answer.read()
                return answer.headers, json.loads(text) if text else None
        except urllib.error.HTTPError as error:
            raise Refused(error.code, error.read().decode(errors="replace")) from None

    def token(self, name, project=None, **scope):
        """A new token of a user, for a project, for another scope (`system`, `domain`), or for none."""
        who = {"name": name, "domain": DOMAIN, "password": PASSWORD}
        auth = {"identity": {"methods": ["password"], "password": {"user": who}}}
        if project:
            scope = {"project": {"name": project, "domain": DOMAIN}}
        return self.authenticate(auth | ({"scope": scope} if scope else {"scope": "unscoped"}))

    def authenticate(self, auth):
        """The token that an authentication request gets."""
        headers, _ = self.call("POST", "/auth/tokens", {"auth": auth})
        return headers["X-Subject-Token"]

    def expired_token(self, name, project):
        """A token of a user that is already over."""
        words = [sys.executable, os.path.join(HERE, "issue.py"), self.conf, name, PASSWORD, project]
        done = subprocess.run(words, capture_output=True, text=True, timeout=LIMIT_S, check=False)
        if done.returncode != 0:
            raise RuntimeError(done.stdout + done.stderr)
        return done.stdout.split()[-1]

    def revoke(self, token):
        self.call("DELETE", "/auth/tokens", token=token, subject=token)

    def fill(self):
        """Projects, users, roles, and the catalogue but for block storage."""
        self.admin = self.token("admin", "admin")
        _, roles = self.call("GET", "/roles", token=self.admin)
        self.roles = {role["name"]: role["id"] for role in roles["roles"]}
        self.projects, self.users = {}, {}
        for project in sorted({project for _, project, _ in USERS}):
            body = {"project": {"name": project, "domain_id": "default"}}
            _, made = self.call("POST", "/projects", body, token=self.admin)
            self.projects[project] = made["project"]["id"]
        for name, project, role in USERS:
            _, made = self.call("POST", "/users", {"user": {"name": name, "password": PASSWORD}}, token=self.admin)
            self.users[name] = made["user"]["id"]
            self.grant(name, project, role)
        self.call("POST", "/regions", {"region": {"id": REGION}}, token=self.admin)
        self.add_service("identity", "keystone", self.url)

    def grant(self, name, project, role):
        path = f"/projects/{self.projects[project]}/users/{self.users[name]}/roles/{self.roles[role]}"
        self.call("PUT", path, token=self.admin)

    def add_service(self, kind, name, url):
        """Adds a service with its endpoints to the catalogue."""
        _, made = self.call("POST", "/services", {"service": {"type": kind, "name": name}}, token=self.admin)
        for interface in ("public", "internal"):
            endpoint = {"service_id": made["service"]["id"], "interface": interface, "url": url, "region_id": REGION}
            self.call("POST", "/endpoints", {"endpoint": endpoint}, token=self.admin)


def user():
    return subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()


def group():
    return subprocess.run(["id", "-gn"], capture_output=True, text=True, check=True).stdout.strip()


def certificates(folder):
    """An authority and a certificate of its for 127.0.0.1; the paths of certificate, key and authority."""
    import datetime
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    now = datetime.datetime.now(datetime.timezone.utc)

    def make(name, issuer, key, signer, *extensions):
        builder = x509.CertificateBuilder().serial_number(x509.random_serial_number())
        builder = builder.subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
        builder = builder.issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer)]))
        builder = builder.public_key(key.public_key()).not_valid_before(now - datetime.timedelta(hours=1))
        builder = builder.not_valid_after(now + datetime.timedelta(days=1))
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(signer, hashes.SHA256())

    def write(name, data):
        path = os.path.join(folder, name)
        with open(path, "wb") as file:
            file.write(data)
        return path

    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = make("test authority", "test authority", authority_key, authority_key,
                     (x509.BasicConstraints(ca=True, path_length=None), True))
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = make("keystone", "test authority", key, authority_key, (names, False),
                       (x509.BasicConstraints(ca=False, path_length=None), True))
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    return (
        write("keystone.crt", certificate.public_bytes(pem)),
        write("keystone.key", key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)),
        write("authority.crt", authority.public_bytes(pem)),
    )


_keystone = None


def keystone():
    """The one Keystone of this test run."""
    global _keystone
    if _keystone is None:
        _keystone = Keystone()
    return _keystone
