"""What every client must be able to do: the same steps, told through each client's own words.

A client is an object with the methods that `Story` calls; see `test_cinderclient.py` for the plainest one.
"""

import uuid

from program import wait_until

from .blocks import Disk
from .service import service

MIB = 1 << 20
GIB = 1 << 30


def connector(name):
    """A host's properties, as os-brick gathers them."""
    return {
        "initiator": f"iqn.2026-01.test.clients:{name}",
        "host": name,
        "ip": "127.0.0.1",
        "platform": "x86_64",
        "os_type": "linux",
        "multipath": False,
    }


class Story:
    """Mixed into a `unittest.TestCase` that sets `self.client` in `setUp`."""

    def setUp(self):
        super().setUp()
        self.service = service()
        self.client = self.make_client()

    # Helpers that register what they make, so that a failed test leaves nothing behind.

    def volume(self, size=1, **source):
        name = f"v-{uuid.uuid4().hex[:8]}"
        volume = self.client.create_volume(name=name, size=size, **source)
        self.addCleanup(self.discard, "volume", volume)
        self.reach("volume", volume, "available")
        return volume

    def snapshot(self, volume):
        snapshot = self.client.create_snapshot(volume, name=f"s-{uuid.uuid4().hex[:8]}")
        self.addCleanup(self.discard, "snapshot", snapshot)
        self.reach("snapshot", snapshot, "available")
        return snapshot

    def backup(self, volume, **options):
        backup = self.client.create_backup(volume, name=f"b-{uuid.uuid4().hex[:8]}", **options)
        self.addCleanup(self.discard, "backup", backup)
        self.reach("backup", backup, "available")
        return backup

    def attach(self, volume, host):
        """Attaches to a host; returns the attachment's id and the disk."""
        facts = connector(host)
        attachment, info = self.client.attach(volume, facts)
        self.addCleanup(self.detach_quietly, attachment)
        return attachment, Disk(info, facts["initiator"])

    def reach(self, kind, resource, status):
        wait_until(lambda: self.peek(kind, resource), lambda seen: seen == status, f"{kind} {resource}")
        self.assertEqual(self.client.status(kind, resource), status)

    def remove(self, kind, resource):
        self.client.delete(kind, resource)
        wait_until(lambda: self.peek(kind, resource), lambda seen: seen is None, f"{kind} {resource}")

    def peek(self, kind, resource):
        """The status, asked directly: a client that takes seconds to start is not used for waiting."""
        return self.service.status(kind, resource)

    def discard(self, kind, resource):
        if self.peek(kind, resource) is not None:
            self.remove(kind, resource)

    def detach_quietly(self, attachment):
        if attachment in self.client.attachments():
            self.client.detach(attachment)

    # The steps.

    def test_a_volume_is_created_listed_shown_extended_and_deleted(self):
        volume = self.volume(size=1)
        self.assertIn(volume, self.client.list("volume"))
        self.assertEqual(self.client.size(volume), 1)
        self.client.extend(volume, 2)
        self.reach("volume", volume, "available")
        self.assertEqual(self.client.size(volume), 2)
        self.remove("volume", volume)
        self.assertNotIn(volume, self.client.list("volume"))

    def test_data_survives_detach_and_reaches_clones_while_attached(self):
        volume = self.volume(size=1)
        attachment, disk = self.attach(volume, "host-a")
        self.assertIn("Vendor", disk.inquiry())
        disk.write(0x11, 0, 2 * MIB)
        disk.write(0x12, 512 * MIB + 4096, MIB)
        snapshot = self.snapshot(volume)
        disk.write(0x22, 0, MIB)
        self.client.extend(volume, 2)
        self.reach("volume", volume, "in-use")
        self.assertEqual(disk.size(), 2 * GIB)
        disk.write(0x33, 2 * GIB - MIB, MIB)
        self.client.detach(attachment)
        self.reach("volume", volume, "available")
        self.assertFalse(disk.is_reachable(), "a detached volume must not be reachable")

        _, again = self.attach(volume, "host-b")
        for pattern, offset in [(0x22, 0), (0x11, MIB), (0x12, 512 * MIB + 4096), (0x33, 2 * GIB - MIB), (0, GIB)]:
            again.verify(pattern, offset, MIB)

        old = self.volume(size=1, snapshot=snapshot)
        _, old_disk = self.attach(old, "host-c")
        old_disk.verify(0x11, 0, 2 * MIB)
        old_disk.verify(0x12, 512 * MIB + 4096, MIB)
        old_disk.write(0x44, 0, MIB)
        again.verify(0x22, 0, MIB)

        clone = self.volume(size=2, source=volume)
        _, clone_disk = self.attach(clone, "host-d")
        clone_disk.verify(0x22, 0, MIB)
        clone_disk.verify(0x33, 2 * GIB - MIB, MIB)

    def test_backups_full_and_incremental_restore_what_was_there(self):
        volume = self.volume(size=1)
        attachment, disk = self.attach(volume, "host-a")
        disk.write(0x51, 0, 4 * MIB)
        full = self.backup(volume, force=True)
        disk.write(0x52, 2 * MIB, MIB)
        increment = self.backup(volume, force=True, incremental=True)
        disk.write(0x53, 0, 4 * MIB)
        self.client.detach(attachment)
        self.reach("volume", volume, "available")
        self.assertIn(increment, self.client.list("backup"))

        self.client.restore(increment, volume)
        self.reach("volume", volume, "available")
        self.reach("backup", increment, "available")
        attachment, disk = self.attach(volume, "host-a")
        for pattern, offset in [(0x51, 0), (0x51, MIB), (0x52, 2 * MIB), (0x51, 3 * MIB)]:
            disk.verify(pattern, offset, MIB)
        self.client.detach(attachment)

        other = self.volume(size=1)
        self.client.restore(full, other)
        self.reach("volume", other, "available")
        _, disk = self.attach(other, "host-a")
        disk.verify(0x51, 0, 4 * MIB)
        self.remove("backup", increment)
        self.remove("backup", full)

    def test_only_the_attached_initiator_gets_in(self):
        volume = self.volume(size=1)
        _, disk = self.attach(volume, "host-a")
        self.assertTrue(disk.is_reachable())
        stranger = Disk({"target_portal": disk.portal, "target_iqn": disk.iqn, "target_lun": disk.lun,
                         "auth_username": disk.user, "auth_password": disk.password}, "iqn.2026-01.test:stranger")
        self.assertFalse(stranger.is_reachable(), "I8: an export admits its own initiator only")
        self.assertIsNotNone(disk.password, "an export has a CHAP secret")
        disk.password = "not the secret"
        self.assertFalse(disk.is_reachable(), "I8: and only with its secret")

    def test_what_cannot_be_is_refused(self):
        volume = self.volume(size=1)
        self.attach(volume, "host-a")
        with self.assertRaises(self.refusals):
            self.client.delete("volume", volume)
        with self.assertRaises(self.refusals):
            self.client.attach(volume, connector("host-b"))
        with self.assertRaises(self.refusals):
            self.client.extend(volume, 1)
        self.assertEqual(self.client.status("volume", volume), "in-use")
        self.assertIsNone(self.client.status("volume", str(uuid.uuid4())))
