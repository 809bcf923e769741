"""python-openstackclient: the `openstack` command."""

import json
import os
import subprocess
import sys
import unittest
import uuid

from program import wait_until

from .compute import Compute
from .service import service
from .story import Story

LIMIT_S = 120


class CommandFailed(Exception):
    """The command ended with an error."""


class Client:
    """The story's words as commands."""

    def __init__(self, endpoint, compute):
        self.login = ["--os-auth-type", "none", "--os-endpoint", endpoint]
        self.compute = compute

    def openstack(self, *words):
        return run("openstack", *self.login, *words, OS_COMPUTE_ENDPOINT_OVERRIDE=self.compute)

    def json(self, *words):
        return json.loads(self.openstack(*words, "-f", "json"))

    def create_volume(self, name, size, snapshot=None, source=None):
        origin = ["--snapshot", snapshot] if snapshot else ["--source", source] if source else []
        return self.json("volume", "create", "--size", str(size), *origin, name)["id"]

    def create_snapshot(self, volume, name):
        # From 3.66 on it drops --force, while its SDK goes on to ask for 3.65, which needs it for a volume in use.
        return self.json(
            "--os-volume-api-version", "3.65", "volume", "snapshot", "create", "--force", "--volume", volume, name
        )["id"]

    def create_backup(self, volume, name, incremental=False, force=False):
        flags = [flag for flag, wanted in [("--incremental", incremental), ("--force", force)] if wanted]
        return self.json("volume", "backup", "create", "--name", name, *flags, volume)["id"]

    def restore(self, backup, volume):
        self.openstack("volume", "backup", "restore", "--force", backup, volume)

    def list(self, kind):
        words = {"volume": [], "snapshot": ["snapshot"], "backup": ["backup"]}[kind]
        return [one["ID"] for one in self.json("volume", *words, "list")]

    def status(self, kind, resource):
        words = {"volume": [], "snapshot": ["snapshot"], "backup": ["backup"]}[kind]
        try:
            return self.json("volume", *words, "show", resource)["status"]
        except CommandFailed as failure:
            if "No " in str(failure) and "found" in str(failure):
                return None
            raise

    def size(self, volume):
        return self.json("volume", "show", volume)["size"]

    def extend(self, volume, size):
        self.openstack("volume", "set", "--size", str(size), volume)

    def delete(self, kind, resource):
        words = {"volume": [], "snapshot": ["snapshot"], "backup": ["backup"]}[kind]
        self.openstack("volume", *words, "delete", resource)

    def attach(self, volume, facts):
        # The command line always names a server; a host without one is the other clients' story.
        created = self.json(
            "volume", "attachment", "create", volume, "--server", str(uuid.uuid4()), "--connect",
            "--initiator", facts["initiator"], "--host", facts["host"], "--ip", facts["ip"],
            "--platform", facts["platform"], "--os-type", facts["os_type"],
        )
        identity = created["ID"]
        self.openstack("volume", "attachment", "complete", identity)
        return identity, self.json("volume", "attachment", "show", identity)["Properties"]

    def detach(self, attachment):
        self.openstack("volume", "attachment", "delete", attachment)

    def attachments(self):
        return [one["ID"] for one in self.json("volume", "attachment", "list")]

    def manageable(self, kind, host):
        # Without a version its SDK asks for the list at one that has none.
        words = ["--os-volume-api-version", "3.8", "block", "storage", kind, "manageable", "list", host]
        return self.openstack(*words, "-f", "json")


def run(program, *words, **more_environment):
    path = os.path.join(os.path.dirname(sys.executable), program)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OS_")} | more_environment
    done = subprocess.run(
        [path, *words], capture_output=True, text=True, timeout=LIMIT_S, check=False, env=environment
    )
    if done.returncode != 0:
        raise CommandFailed(f"{program} {' '.join(words)}: {done.stdout}{done.stderr}")
    return done.stdout


class OpenStackClient(Story, unittest.TestCase):
    refusals = CommandFailed

    def make_client(self):
        compute = Compute()
        self.addCleanup(compute.close)
        return Client(service().endpoint, compute.endpoint)

    def test_remote_volumes_and_snapshots_are_taken_over(self):
        client, volume = self.client, self.volume(size=1)
        host = client.json("volume", "show", volume)["os-vol-host-attr:host"]
        client.openstack("volume", "delete", "--remote", volume)
        wait_until(lambda: self.peek("volume", volume), lambda seen: seen is None, "the volume")
        source = f"volume-{volume}"
        self.assertIn(source, client.manageable("volume", host))
        taken = client.json("volume", "create", "--remote-source", f"source-name={source}", "--host", host, "--bootable", "taken")["id"]
        self.addCleanup(self.discard, "volume", taken)
        self.reach("volume", taken, "available")
        snapshot = self.snapshot(taken)
        client.openstack("volume", "snapshot", "delete", "--remote", snapshot)
        wait_until(lambda: self.peek("snapshot", snapshot), lambda seen: seen is None, "the snapshot")
        self.assertIn(snapshot, client.manageable("snapshot", host))
        source = f"source-name=snapshot-{snapshot}"
        again = client.json("volume", "snapshot", "create", "--remote-source", source, "--volume", taken, "again")["id"]
        self.addCleanup(self.discard, "snapshot", again)
        self.reach("snapshot", again, "available")


if __name__ == "__main__":
    unittest.main()
