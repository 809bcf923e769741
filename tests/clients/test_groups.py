"""Groups of volumes and legacy consistency groups, through python-cinderclient, `cinder` and `openstack`."""

import unittest
import uuid

from cinderclient import client as cinder
from cinderclient import exceptions
from keystoneauth1 import noauth, session

from program import wait_until

from .service import service
from .test_openstackclient import Client as Commands
from .test_openstackclient import CommandFailed, run

GENERIC = "3.71"
TYPE = "__DEFAULT__"


class Groups(unittest.TestCase):
    def setUp(self):
        super().setUp()
        self.service = service()
        login = session.Session(auth=noauth.NoAuth(endpoint=self.service.endpoint))
        self.cinder = cinder.Client(GENERIC, session=login)
        # No command here asks the compute service.
        self.commands = Commands(self.service.endpoint, "http://127.0.0.1:9")
        self.name = f"g-{uuid.uuid4().hex[:8]}"

    # What is made here, with what removes it.

    def group_type(self):
        kind = self.cinder.group_types.create(self.name)
        self.addCleanup(self.cinder.group_types.delete, kind)
        kind.set_keys({"consistent_group_snapshot_enabled": "<is> True"})
        return kind

    def group_of_two(self):
        kind = self.group_type()
        group = self.cinder.groups.create(kind.id, TYPE, name=self.name)
        self.addCleanup(self.remove, self.cinder.groups, group.id)
        self.reach(self.cinder.groups, group.id)
        volumes = [self.cinder.volumes.create(1, volume_type=TYPE, group_id=group.id).id for _ in range(2)]
        for volume in volumes:
            self.reach(self.cinder.volumes, volume)
        return group, volumes

    def remove(self, manager, resource):
        """With all its volumes, where it has some; nothing when it is gone."""
        try:
            if manager is self.cinder.groups:
                manager.delete(resource, delete_volumes=True)
            elif manager is self.cinder.consistencygroups:
                manager.delete(resource, force=True)
            else:
                manager.delete(resource)
        except exceptions.NotFound:
            return
        self.gone(manager, resource)

    def status(self, manager, resource):
        try:
            return manager.get(resource).status
        except exceptions.NotFound:
            return None

    def reach(self, manager, resource, status="available"):
        wait_until(lambda: self.status(manager, resource), lambda seen: seen in (status, "error"), resource)
        self.assertEqual(self.status(manager, resource), status)

    def gone(self, manager, resource):
        wait_until(lambda: self.status(manager, resource), lambda seen: seen is None, resource)

    def members(self, group):
        return sorted(self.cinder.groups.get(group, list_volume=True).volumes)

    def test_a_group_its_snapshot_and_its_copies_through_the_library(self):
        group, volumes = self.group_of_two()
        self.assertEqual(self.members(group.id), sorted(volumes))
        self.assertEqual(self.cinder.volumes.get(volumes[0]).group_id, group.id)
        with self.assertRaises(exceptions.BadRequest):
            self.cinder.volumes.delete(volumes[0])
        whole = self.cinder.group_snapshots.create(group.id, name="whole")
        self.addCleanup(self.remove, self.cinder.group_snapshots, whole.id)
        self.reach(self.cinder.group_snapshots, whole.id)
        parts = self.cinder.volume_snapshots.list(search_opts={"group_snapshot_id": whole.id})
        self.assertEqual(sorted(part.volume_id for part in parts), sorted(volumes))
        self.assertIn(whole.id, [one.id for one in self.cinder.group_snapshots.list()])
        for snapshot, source in [(whole.id, None), (None, group.id)]:
            copy = self.cinder.groups.create_from_src(snapshot, source, name="copy")["id"]
            self.addCleanup(self.remove, self.cinder.groups, copy)
            self.reach(self.cinder.groups, copy)
            self.assertEqual(len(self.members(copy)), 2)
            self.remove(self.cinder.groups, copy)
        with self.assertRaises(exceptions.BadRequest):
            self.cinder.groups.delete(group.id, delete_volumes=True)
        self.remove(self.cinder.group_snapshots, whole.id)
        self.cinder.groups.update(group.id, name="renamed", remove_volumes=volumes[0])
        self.assertEqual(self.cinder.groups.get(group.id).name, "renamed")
        self.assertEqual(self.members(group.id), [volumes[1]])
        self.cinder.volumes.delete(volumes[0])
        self.gone(self.cinder.volumes, volumes[0])
        self.cinder.groups.reset_state(group.id, "error")
        self.assertEqual(self.status(self.cinder.groups, group.id), "error")
        with self.assertRaises(exceptions.BadRequest):
            self.cinder.groups.list_replication_targets(group.id)
        self.remove(self.cinder.groups, group.id)
        self.gone(self.cinder.volumes, volumes[1])

    def test_the_cinder_command(self):
        kind = self.group_type()
        volume = self.cinder.volumes.create(1, volume_type=TYPE).id
        self.reach(self.cinder.volumes, volume)
        project = getattr(self.cinder.volumes.get(volume), "os-vol-tenant-attr:tenant_id")

        def command(*words):
            login = ["--os-auth-type", "noauth", "--os-endpoint", self.service.endpoint, "--os-user-id", "admin",
                     "--os-project-id", project]
            return run("cinder", "--os-volume-api-version", GENERIC, *login, *words)

        command("group-create", "--name", self.name, kind.name, TYPE)
        group = next(one for one in self.cinder.groups.list() if one.name == self.name)
        self.addCleanup(self.remove, self.cinder.groups, group.id)
        self.reach(self.cinder.groups, group.id)
        command("group-update", "--add-volumes", volume, group.id)
        self.assertIn(volume, command("group-show", "--list-volume", "True", group.id))
        command("group-snapshot-create", "--name", "whole", group.id)
        whole = next(one for one in self.cinder.group_snapshots.list() if one.name == "whole")
        self.addCleanup(self.remove, self.cinder.group_snapshots, whole.id)
        self.reach(self.cinder.group_snapshots, whole.id)
        self.assertIn(whole.id, command("group-snapshot-list"))
        command("group-snapshot-delete", whole.id)
        self.gone(self.cinder.group_snapshots, whole.id)
        command("group-delete", "--delete-volumes", group.id)
        self.gone(self.cinder.groups, group.id)
        self.gone(self.cinder.volumes, volume)

    def test_the_openstack_command(self):
        kind = self.group_type()
        version = ["--os-volume-api-version", GENERIC]
        made = self.commands.json(
            *version, "volume", "group", "create", "--volume-group-type", kind.id, "--volume-type", TYPE, "--name", self.name
        )
        group = made["ID"]
        self.addCleanup(self.remove, self.cinder.groups, group)
        self.reach(self.cinder.groups, group)
        volume = self.cinder.volumes.create(1, volume_type=TYPE, group_id=group).id
        self.reach(self.cinder.volumes, volume)
        whole = self.commands.json(*version, "volume", "group", "snapshot", "create", "--name", "whole", group)["ID"]
        self.addCleanup(self.remove, self.cinder.group_snapshots, whole)
        self.reach(self.cinder.group_snapshots, whole)
        self.assertEqual(self.commands.json(*version, "volume", "group", "show", group)["Status"], "available")
        listed = self.commands.json(*version, "volume", "group", "list")
        self.assertIn(group, [one["ID"] for one in listed])
        self.commands.openstack(*version, "volume", "group", "snapshot", "delete", whole)
        self.gone(self.cinder.group_snapshots, whole)
        self.commands.openstack(*version, "volume", "group", "delete", "--force", group)
        self.gone(self.cinder.groups, group)

    def test_legacy_consistency_groups(self):
        made = self.commands.json("consistency", "group", "create", "--volume-type", TYPE, self.name)
        group = made["id"]
        self.addCleanup(self.remove, self.cinder.consistencygroups, group)
        self.reach(self.cinder.consistencygroups, group)
        with self.assertRaises(exceptions.BadRequest):
            self.cinder.groups.get(group)
        volume = self.cinder.volumes.create(1, volume_type=TYPE).id
        self.reach(self.cinder.volumes, volume)
        self.commands.openstack("consistency", "group", "add", "volume", group, volume)
        self.assertEqual(self.cinder.volumes.get(volume).consistencygroup_id, group)
        snapshot = self.commands.json(
            "consistency", "group", "snapshot", "create", "--consistency-group", group, "cgs"
        )["id"]
        self.addCleanup(self.remove, self.cinder.cgsnapshots, snapshot)
        self.reach(self.cinder.cgsnapshots, snapshot)
        copy = self.cinder.consistencygroups.create_from_src(snapshot, None, name="copy")
        copy = copy["id"]
        self.addCleanup(self.remove, self.cinder.consistencygroups, copy)
        self.reach(self.cinder.consistencygroups, copy)
        self.remove(self.cinder.consistencygroups, copy)
        self.commands.openstack("consistency", "group", "snapshot", "delete", snapshot)
        self.gone(self.cinder.cgsnapshots, snapshot)
        with self.assertRaises(CommandFailed):
            self.commands.openstack("consistency", "group", "delete", group)
        # Its own --force sends a key that Cinder does not know.
        self.remove(self.cinder.consistencygroups, group)
        self.gone(self.cinder.volumes, volume)


if __name__ == "__main__":
    unittest.main()
