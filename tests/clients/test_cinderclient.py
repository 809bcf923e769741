"""python-cinderclient, the library."""

import unittest

from cinderclient import client as cinder
from cinderclient import exceptions
from keystoneauth1 import noauth, session
from program import wait_until

from .blocks import Disk, discover
from .service import service
from .story import GIB, MIB, Story, connector


class Client:
    """The story's words in cinderclient's."""

    def __init__(self, endpoint):
        login = session.Session(auth=noauth.NoAuth(endpoint=endpoint))
        self.cinder = cinder.Client("3.71", session=login)
        self.collections = {
            "volume": self.cinder.volumes,
            "snapshot": self.cinder.volume_snapshots,
            "backup": self.cinder.backups,
        }

    def create_volume(self, name, size, snapshot=None, source=None):
        return self.cinder.volumes.create(size, name=name, snapshot_id=snapshot, source_volid=source).id

    def create_snapshot(self, volume, name):
        return self.cinder.volume_snapshots.create(volume, name=name).id

    def create_backup(self, volume, name, incremental=False, force=False):
        return self.cinder.backups.create(volume, name=name, incremental=incremental, force=force).id

    def restore(self, backup, volume):
        self.cinder.restores.restore(backup, volume_id=volume)

    def list(self, kind):
        return [one.id for one in self.collections[kind].list()]

    def status(self, kind, resource):
        try:
            return self.collections[kind].get(resource).status
        except exceptions.NotFound:
            return None

    def size(self, volume):
        return self.cinder.volumes.get(volume).size

    def extend(self, volume, size):
        self.cinder.volumes.extend(volume, size)

    def delete(self, kind, resource):
        self.collections[kind].delete(resource)

    def attach(self, volume, facts):
        attachment = self.cinder.attachments.create(volume, connector=facts, instance_id=None)
        identity = attachment["id"]
        self.cinder.attachments.complete(identity)
        return identity, self.cinder.attachments.show(identity).connection_info

    def detach(self, attachment):
        self.cinder.attachments.delete(attachment)

    def attachments(self):
        return [one.id for one in self.cinder.attachments.list()]


class CinderClient(Story, unittest.TestCase):
    refusals = exceptions.ClientException

    def make_client(self):
        return Client(service().endpoint)

    def test_a_multiattach_volume_is_shared_by_two_hosts(self):
        cinder = self.client.cinder
        shared = cinder.volume_types.create("shared-by-cinderclient")
        self.addCleanup(cinder.volume_types.delete, shared)
        shared.set_keys({"multiattach": "<is> True"})
        volume = cinder.volumes.create(1, name="shared", volume_type=shared.id).id
        self.addCleanup(self.discard, "volume", volume)
        self.reach("volume", volume, "available")
        first, disk_a = self.attach(volume, "host-a")
        second, disk_b = self.attach(volume, "host-b")
        disk_a.write(0x61, 8 * MIB, MIB)
        disk_b.verify(0x61, 8 * MIB, MIB)
        self.client.detach(first)
        self.assertEqual(self.client.status("volume", volume), "in-use")
        disk_b.verify(0x61, 8 * MIB, MIB)
        self.assertFalse(disk_a.is_reachable())
        self.client.detach(second)
        self.reach("volume", volume, "available")

    def test_the_old_way_of_attaching_still_works(self):
        cinder = self.client.cinder
        volume = self.volume(size=1)
        facts = connector("host-a")
        cinder.volumes.reserve(volume)
        self.assertEqual(self.client.status("volume", volume), "attaching")
        info = cinder.volumes.initialize_connection(volume, facts)
        disk = Disk(info, facts["initiator"])
        cinder.volumes.attach(volume, None, "/dev/vdb", mode="rw", host_name="host-a")
        self.reach("volume", volume, "in-use")
        disk.write(0x71, 0, MIB)
        self.assertIn(disk.iqn, discover(disk.portal, disk.initiator))
        cinder.volumes.begin_detaching(volume)
        self.assertEqual(self.client.status("volume", volume), "detaching")
        cinder.volumes.terminate_connection(volume, facts)
        cinder.volumes.detach(volume)
        self.reach("volume", volume, "available")
        self.assertFalse(disk.is_reachable())

    def test_metadata_types_quotas_services_pools_and_limits_answer(self):
        cinder = self.client.cinder
        volume = self.volume(size=1)
        cinder.volumes.set_metadata(volume, {"purpose": "test"})
        self.assertEqual(cinder.volumes.get(volume).metadata["purpose"], "test")
        self.assertIn(volume, [one.id for one in cinder.volumes.list(search_opts={"metadata": {"purpose": "test"}})])
        cinder.volumes.update(volume, name="renamed")
        self.assertEqual(cinder.volumes.get(volume).name, "renamed")
        self.assertIn("__DEFAULT__", [one.name for one in cinder.volume_types.list()])
        self.assertGreaterEqual(cinder.limits.get().to_dict()["absolute"]["totalVolumesUsed"], 1)
        states = {one.binary: one.state for one in cinder.services.list()}
        self.assertEqual(states.get("cinder-volume"), "up")
        self.assertEqual(states.get("cinder-scheduler"), "up")
        self.assertTrue(cinder.pools.list(detailed=True))
        self.assertTrue(cinder.availability_zones.list())

    def test_volumes_and_snapshots_are_given_up_and_taken_over(self):
        cinder = self.client.cinder
        volume = self.volume(size=1)
        host = getattr(cinder.volumes.get(volume), "os-vol-host-attr:host")
        snapshot = self.snapshot(volume)
        cinder.volume_snapshots.unmanage(snapshot)
        wait_until(lambda: self.peek("snapshot", snapshot), lambda seen: seen is None, "the snapshot")
        listed = cinder.volume_snapshots.list_manageable(host, detailed=True)
        [given] = [one for one in listed if snapshot in one.reference["source-name"]]
        self.assertTrue(given.safe_to_manage)
        self.assertEqual(given.source_reference, {"source-name": f"volume-{volume}"})
        again = cinder.volume_snapshots.manage(volume, given.reference, name="again").id
        self.addCleanup(self.discard, "snapshot", again)
        self.reach("snapshot", again, "available")
        self.remove("snapshot", again)
        cinder.volumes.unmanage(volume)
        wait_until(lambda: self.peek("volume", volume), lambda seen: seen is None, "the volume")
        listed = cinder.volumes.list_manageable(host, detailed=False)
        self.assertIn({"source-name": f"volume-{volume}.unmanaged"}, [one.reference for one in listed])
        taken = cinder.volumes.manage(host, {"source-name": f"volume-{volume}"}, name="taken", bootable=True).id
        self.addCleanup(self.discard, "volume", taken)
        self.reach("volume", taken, "available")
        seen = cinder.volumes.get(taken)
        self.assertEqual((seen.size, seen.name, seen.bootable), (1, "taken", "true"))

    def test_the_whole_lun_reads_as_zeros_when_new(self):
        _, disk = self.attach(self.volume(size=1), "host-a")
        disk.verify(0, 0, GIB // 8)
        disk.verify(0, GIB - GIB // 8, GIB // 8)


if __name__ == "__main__":
    unittest.main()
