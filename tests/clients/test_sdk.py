"""openstacksdk."""

import unittest

import openstack
from openstack import exceptions

from .service import service
from .story import Story


class Client:
    """The story's words in the SDK's."""

    def __init__(self, endpoint):
        connection = openstack.connect(
            auth_type="none", auth={"endpoint": endpoint}, region_name="", load_yaml_config=False, load_envvars=False
        )
        self.storage = connection.block_storage

    def create_volume(self, name, size, snapshot=None, source=None):
        origin = {key: value for key, value in [("snapshot_id", snapshot), ("source_volume_id", source)] if value}
        return self.storage.create_volume(name=name, size=size, **origin).id

    def create_snapshot(self, volume, name):
        return self.storage.create_snapshot(volume_id=volume, name=name, force=True).id

    def create_backup(self, volume, name, incremental=False, force=False):
        return self.storage.create_backup(volume_id=volume, name=name, is_incremental=incremental, force=force).id

    def restore(self, backup, volume):
        self.storage.restore_backup(backup, volume_id=volume)

    def list(self, kind):
        lists = {"volume": self.storage.volumes, "snapshot": self.storage.snapshots, "backup": self.storage.backups}
        return [one.id for one in lists[kind]()]

    def status(self, kind, resource):
        gets = {
            "volume": self.storage.get_volume,
            "snapshot": self.storage.get_snapshot,
            "backup": self.storage.get_backup,
        }
        try:
            return gets[kind](resource).status
        except exceptions.NotFoundException:
            return None

    def size(self, volume):
        return self.storage.get_volume(volume).size

    def extend(self, volume, size):
        self.storage.extend_volume(volume, size)

    def delete(self, kind, resource):
        deletes = {
            "volume": self.storage.delete_volume,
            "snapshot": self.storage.delete_snapshot,
            "backup": self.storage.delete_backup,
        }
        deletes[kind](resource, ignore_missing=False)

    def attach(self, volume, facts):
        attachment = self.storage.create_attachment(volume, connector=facts)
        self.storage.complete_attachment(attachment)
        return attachment.id, self.storage.get_attachment(attachment.id).connection_info

    def detach(self, attachment):
        self.storage.delete_attachment(attachment, ignore_missing=False)

    def attachments(self):
        return [one.id for one in self.storage.attachments()]


class Sdk(Story, unittest.TestCase):
    refusals = (exceptions.BadRequestException, exceptions.ConflictException)

    def make_client(self):
        return Client(service().endpoint)


if __name__ == "__main__":
    unittest.main()
