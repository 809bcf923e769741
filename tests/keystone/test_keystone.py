"""`auth_strategy = keystone` against a real Keystone: who is known, who may what, and what happens when it is gone."""

import json
import os
import subprocess
import sys
import unittest
import uuid

from program import wait_until

from .compute import Compute
from .identity import PASSWORD, keystone
from .service import Service

LIMIT_S = 120
CHALLENGE = 'Keystone uri="http://keystone.example/identity"'
UNAUTHORIZED = {
    "error": {"code": 401, "title": "Unauthorized", "message": "The request you have made requires authentication."}
}
#: Seconds that the service remembers a token here.
CACHE_S = 1


class CommandFailed(Exception):
    """The command ended with an error."""


def openstack(name, project, *words):
    """The `openstack` command as a user with a password; its JSON output."""
    program = os.path.join(os.path.dirname(sys.executable), "openstack")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("OS_")} | {
        "OS_AUTH_URL": keystone().url, "OS_USERNAME": name, "OS_PASSWORD": PASSWORD, "OS_PROJECT_NAME": project,
        "OS_USER_DOMAIN_ID": "default", "OS_PROJECT_DOMAIN_ID": "default", "OS_IDENTITY_API_VERSION": "3",
    }
    done = subprocess.run(
        [program, *words], capture_output=True, text=True, timeout=LIMIT_S, check=False, env=environment
    )
    if done.returncode != 0:
        raise CommandFailed(f"openstack {' '.join(words)}: {done.stdout}{done.stderr}")
    return json.loads(done.stdout) if done.stdout.strip() else None


def setUpModule():
    global service, compute
    service = Service(keystone().url, more=f"token_cache_time = {CACHE_S}\nservice_type = block-storage")
    unittest.addModuleCleanup(service.close)
    compute = Compute()
    unittest.addModuleCleanup(lambda: compute.close())
    keystone().add_service("block-storage", "cinder", f"{service.root}/v3")
    keystone().add_service("compute", "nova", compute.url)


def create_volume(token):
    answer = service.call("POST", "/v3/volumes", token, {"volume": {"size": 1}})
    assert answer.status == 202, answer.text
    volume = answer.json["volume"]["id"]
    wait_until(
        lambda: service.call("GET", f"/v3/volumes/{volume}", token).json["volume"]["status"],
        lambda status: status == "available", volume,
    )
    return volume


class People(unittest.TestCase):
    """The stock client with real passwords."""

    def test_members_keep_their_volumes_to_themselves(self):
        made = openstack("alice", "blue", "volume", "create", "--size", "1", "hers", "-f", "json")
        volume = made["id"]
        self.assertEqual([one["ID"] for one in openstack("alice", "blue", "volume", "list", "-f", "json")], [volume])
        self.assertEqual(openstack("bob", "red", "volume", "list", "-f", "json"), [])
        with self.assertRaisesRegex(CommandFailed, "No volume found|No Volume found|could not be found"):
            openstack("bob", "red", "volume", "show", volume, "-f", "json")
        with self.assertRaisesRegex(CommandFailed, "403"):
            openstack("rita", "blue", "volume", "create", "--size", "1", "mine", "-f", "json")
        seen = openstack("admin", "admin", "volume", "list", "--all-projects", "-f", "json")
        self.assertEqual([one["ID"] for one in seen], [volume])
        openstack("alice", "blue", "volume", "delete", volume)

    def test_roles_decide_and_other_projects_are_not_there(self):
        alice, rita = keystone().token("alice", "blue"), keystone().token("rita", "blue")
        bob, admin = keystone().token("bob", "red"), keystone().token("admin", "admin")
        volume = create_volume(alice)
        path = f"/v3/volumes/{volume}"
        for token, status in [(alice, 200), (rita, 200), (bob, 404), (admin, 200)]:
            self.assertEqual(service.call("GET", path, token).status, status)
        refused = service.call("DELETE", path, rita)
        self.assertEqual(refused.status, 403)
        self.assertEqual(refused.json["forbidden"]["message"], "Policy doesn't allow volume:delete to be performed.")
        self.assertEqual(service.call("DELETE", path, bob).status, 404)
        self.assertEqual(service.call("GET", "/v3/os-services", alice).status, 403)
        self.assertEqual(service.call("GET", "/v3/os-services", admin).status, 200)
        red = keystone().projects["red"]
        self.assertEqual(service.call("GET", f"/v3/{red}/volumes", alice).status, 400)
        self.assertEqual(service.call("DELETE", path, alice).status, 202)

    def test_tokens_without_a_project_own_nothing(self):
        keystone().call(
            "PUT", f"/system/users/{keystone().users['alice']}/roles/{keystone().roles['reader']}", token=keystone().admin
        )
        keystone().call(
            "PUT", f"/domains/default/users/{keystone().users['alice']}/roles/{keystone().roles['member']}",
            token=keystone().admin,
        )
        body = {"volume": {"size": 1}}
        for token in [
            keystone().token("alice"),
            keystone().token("alice", system={"all": True}),
            keystone().token("alice", domain={"id": "default"}),
        ]:
            self.assertEqual(service.call("POST", "/v3/volumes", token, body).status, 403)
            self.assertEqual(service.call("GET", "/v3/volumes/detail", token).status, 403)
        system = keystone().token("admin", system={"all": True})
        self.assertEqual(service.call("GET", "/v3/volumes/detail?all_tenants=1", system).status, 200)
        self.assertEqual(service.call("GET", "/v3/os-services", system).status, 200)


class Servers(unittest.TestCase):
    """What a running server uses is the compute service's to take away: OSSA-2023-003, CVE-2023-2088."""

    CONNECTOR = {
        "initiator": "iqn.2026-01.test:host", "host": "host", "ip": "127.0.0.1", "platform": "x86_64", "os_type": "linux",
        "multipath": False,
    }
    VERSION = {"OpenStack_API_Version": "volume 3.71"}

    def setUp(self):
        self.alice = keystone().token("alice", "blue")
        self.server = str(uuid.uuid4())
        self.volume = create_volume(self.alice)

    def attach(self):
        body = {"volume_uuid": self.volume, "instance_uuid": self.server, "connector": self.CONNECTOR}
        made = self.call("POST", "/v3/attachments", {"attachment": body})
        self.assertEqual(made.status, 200, made.text)
        attachment = made.json["attachment"]["id"]
        self.assertEqual(self.call("POST", f"/v3/attachments/{attachment}/action", {"os-complete": {}}).status, 204)
        return attachment

    def call(self, method, path, body=None, token=None, **headers):
        return service.call(method, path, token or self.alice, body, **self.VERSION, **headers)

    def test_a_servers_attachment_is_taken_by_services_only(self):
        attachment = self.attach()
        compute.uses[self.server, self.volume] = attachment
        action = f"/v3/volumes/{self.volume}/action"
        for token in [self.alice, keystone().token("admin", "admin")]:
            for method, path, body in [
                ("DELETE", f"/v3/attachments/{attachment}", None),
                ("POST", action, {"os-detach": {"attachment_id": attachment}}),
                ("POST", action, {"os-detach": {}}),
                ("POST", action, {"os-terminate_connection": {"connector": self.CONNECTOR}}),
            ]:
                with self.subTest(body=body):
                    refused = self.call(method, path, body, token)
                    self.assertEqual(refused.status, 409, refused.text)
                    self.assertIn(
                        f"Detach volume from instance {self.server} using the Compute API",
                        refused.json["conflictingRequest"]["message"],
                    )
        path, token, version = compute.asked[0]
        self.assertEqual(path, f"/v2.1/servers/{self.server}/os-volume_attachments/{self.volume}")
        self.assertEqual((token, version), (self.alice, "compute 2.89"))
        # Saying so does not make a service.
        self.assertEqual(self.call("DELETE", f"/v3/attachments/{attachment}", X_Service_Roles="service").status, 409)
        status = self.call("GET", f"/v3/volumes/{self.volume}").json["volume"]["status"]
        self.assertEqual(status, "in-use")
        nova = keystone().token("nova", "service")
        gone = self.call("DELETE", f"/v3/attachments/{attachment}", X_Service_Token=nova)
        self.assertEqual((gone.status, gone.json), (200, {"attachments": []}))

    def test_what_no_server_uses_is_its_owners(self):
        attachment = self.attach()
        for other in [None, str(uuid.uuid4())]:
            # No such server or volume of it; or it uses the volume by another attachment.
            if other:
                attachment = self.attach()
                compute.uses[self.server, self.volume] = other
            self.assertEqual(self.call("DELETE", f"/v3/attachments/{attachment}").status, 200)
        reserved = self.call(
            "POST", "/v3/attachments", {"attachment": {"volume_uuid": self.volume, "instance_uuid": self.server}}
        ).json["attachment"]["id"]
        compute.uses[self.server, self.volume] = reserved
        self.assertEqual(self.call("DELETE", f"/v3/attachments/{reserved}").status, 200)

    def test_without_an_answer_nothing_is_taken(self):
        global compute
        attachment = self.attach()
        port = compute.port
        compute.close()
        try:
            refused = self.call("DELETE", f"/v3/attachments/{attachment}")
            self.assertEqual(refused.status, 503, refused.text)
        finally:
            compute = Compute(port)
        self.assertEqual(self.call("GET", f"/v3/attachments/{attachment}").status, 200)
        self.assertEqual(self.call("DELETE", f"/v3/attachments/{attachment}").status, 200)


class Strangers(unittest.TestCase):
    """Whom Keystone does not know."""

    def assert_unauthorized(self, answer):
        self.assertEqual(answer.status, 401, answer.text)
        self.assertEqual(answer.headers["WWW-Authenticate"], CHALLENGE)
        self.assertEqual(answer.headers["Content-Type"], "application/json")
        self.assertTrue(answer.headers["X-Openstack-Request-Id"].startswith("req-"))
        self.assertEqual(answer.json, UNAUTHORIZED)

    def test_no_token_and_bad_tokens_are_refused(self):
        for token in [None, "", "  ", "nonsense", "alice:blue", "a" * 5000, "é"]:
            self.assert_unauthorized(service.call("GET", "/v3/volumes", token))
        self.assert_unauthorized(service.call("POST", "/v3/volumes", "x", {"volume": {"size": 1}}))
        self.assert_unauthorized(service.call("GET", "/v3/"))
        self.assert_unauthorized(service.call("GET", "/cinderblock/v1/jobs"))
        self.assertEqual(service.call("GET", "/").status, 300)

    def test_nobody_becomes_somebody_by_saying_so(self):
        claims = {
            "X_Roles": "admin", "X_Role": "admin", "X_User_Id": "root", "X_Project_Id": keystone().projects["blue"],
            "X_Identity_Status": "Confirmed", "X_Service_Roles": "service", "X_Service_Identity_Status": "Confirmed",
            "X_Is_Admin_Project": "True", "OpenStack_System_Scope": "all",
        }
        self.assert_unauthorized(service.call("GET", "/v3/volumes", **claims))
        bob = keystone().token("bob", "red")
        self.assertEqual(service.call("GET", "/v3/os-services", bob, **claims).status, 403)

    def test_an_expired_token_is_good_only_beside_a_services(self):
        expired = keystone().expired_token("alice", "blue")
        self.assert_unauthorized(service.call("GET", "/v3/volumes", expired))
        nova = keystone().token("nova", "service")
        self.assertEqual(service.call("GET", "/v3/volumes", expired, X_Service_Token=nova).status, 200)
        # It is remembered now, and still expired.
        self.assert_unauthorized(service.call("GET", "/v3/volumes", expired))
        bob = keystone().token("bob", "red")
        self.assert_unauthorized(service.call("GET", "/v3/volumes", expired, X_Service_Token=bob))

    def test_a_revoked_token_ends_with_the_memory_of_it(self):
        unseen, seen = keystone().token("alice", "blue"), keystone().token("alice", "blue")
        self.assertEqual(service.call("GET", "/v3/volumes", seen).status, 200)
        keystone().revoke(unseen)
        keystone().revoke(seen)
        self.assert_unauthorized(service.call("GET", "/v3/volumes", unseen))
        wait_until(lambda: service.call("GET", "/v3/volumes", seen).status, lambda status: status == 401, "seen", 10)

    def test_a_service_token_must_be_a_services(self):
        alice = keystone().token("alice", "blue")
        nova = keystone().token("nova", "service")
        self.assertEqual(service.call("GET", "/v3/volumes", alice, X_Service_Token=nova).status, 200)
        for token in [alice, "nonsense", keystone().token("admin", "admin")]:
            # The administrator has every role but this one.
            self.assert_unauthorized(service.call("GET", "/v3/volumes", alice, X_Service_Token=token))
        self.assert_unauthorized(service.call("GET", "/v3/volumes", None, X_Service_Token=nova))

    def test_access_rules_of_application_credentials_hold(self):
        alice = keystone().token("alice", "blue")
        rule = {"service": "block-storage", "method": "GET", "path": "/v3/volumes/**"}
        body = {"application_credential": {"name": uuid.uuid4().hex, "access_rules": [rule]}}
        path = f"/users/{keystone().users['alice']}/application_credentials"
        _, made = keystone().call("POST", path, body, token=alice)
        credential = {key: made["application_credential"][key] for key in ("id", "secret")}
        token = keystone().authenticate(
            {"identity": {"methods": ["application_credential"], "application_credential": credential}}
        )
        self.assertEqual(service.call("GET", "/v3/volumes/detail", token).status, 200)
        self.assert_unauthorized(service.call("GET", "/v3/snapshots", token))
        self.assert_unauthorized(service.call("POST", "/v3/volumes/x/action", token, {"os-extend": {"new_size": 2}}))


class Absence(unittest.TestCase):
    """Keystone out of reach."""

    def test_keystone_gone_is_503_and_back_is_back(self):
        before, after = keystone().token("alice", "blue"), keystone().token("alice", "blue")
        keystone().stop()
        try:
            answer = service.call("GET", "/v3/volumes", before, Accept="application/json")
            self.assertEqual(answer.status, 503)
            self.assertEqual(answer.json["title"], "Service Unavailable")
            self.assertIn("The Keystone service is temporarily unavailable.", answer.json["message"])
            self.assertNotIn("WWW-Authenticate", answer.headers)
            plain = service.call("GET", "/v3/volumes", before)
            self.assertIn("The Keystone service is temporarily unavailable.", plain.text)
            self.assertEqual(service.call("GET", "/healthcheck").status, 200)
            # Whoever has no token need not wait for Keystone to be told.
            self.assertEqual(service.call("GET", "/v3/volumes").status, 401)
        finally:
            keystone().start()
        self.assertEqual(service.call("GET", "/v3/volumes", before).status, 200)
        self.assertEqual(service.call("GET", "/v3/volumes", after).status, 200)

    def test_tls_is_checked_by_cafile_unless_insecure(self):
        token = keystone().token("alice", "blue")
        authority = keystone().authority
        for more, status in [(f"cafile = {authority}", 200), ("insecure = true", 200), ("", 503)]:
            with self.subTest(more=more):
                # The catalogue's address of Keystone is without TLS: this one has none in its region.
                other = Service(keystone().tls_url, more=f"region_name = elsewhere\n{more}", roles=["api"])
                try:
                    self.assertEqual(other.call("GET", "/v3/volumes", token).status, status, other.log())
                finally:
                    other.close()

    def test_wrong_credentials_of_the_service_are_503(self):
        other = Service(keystone().url, password="not the password", roles=["api"])
        self.addCleanup(other.close)
        token = keystone().token("alice", "blue")
        self.assertEqual(other.call("GET", "/v3/volumes", token).status, 503)
        self.assertIn("the service cannot log in to Keystone", other.log())
        self.assertNotIn("not the password", other.log())


if __name__ == "__main__":
    unittest.main()
