"""Runs Cinder's own POSIX backup driver for the tests in with_cinder.rs.

    driver.py backup|restore ORDER

ORDER is a JSON file: {"store", "file", "algorithm", "chunk_size", "block_size", "backup": row, "parents": [row, ...]}.
After a backup the row is printed, with the fields that the driver has set.
"""

import contextlib
import json
import sys
from unittest import mock

from oslo_config import cfg

from cinder import context
from cinder import objects
from cinder.backup.drivers import posix
from cinder.common import config  # noqa: F401  registers the options


class Row(dict):
    """A backup as the driver uses it: by attribute and by key."""

    __getattr__ = dict.__getitem__
    __setattr__ = dict.__setitem__

    def save(self):
        pass

    def refresh(self):
        pass

    @contextlib.contextmanager
    def as_read_deleted(self):
        yield


def main():
    action, order = sys.argv[1], json.load(open(sys.argv[2]))
    objects.register_all()
    cfg.CONF([], project="cinder", default_config_files=[])
    cfg.CONF.set_override("backup_compression_algorithm", order["algorithm"])
    cfg.CONF.set_override("backup_file_size", order["chunk_size"])
    cfg.CONF.set_override("backup_sha_block_size_bytes", order["block_size"])
    cfg.CONF.set_override("backup_enable_progress_timer", False)
    cfg.CONF.set_override("connection", "sqlite://", group="database")  # never used
    backup = Row(order["backup"])
    rows = {row["id"]: Row(row) for row in order["parents"]}
    driver = posix.PosixBackupDriver(context.get_admin_context(), order["store"])
    driver.db = mock.Mock()
    size = backup["size"]
    driver.db.volume_get.return_value = {"size": size}
    restored = []
    driver.get_metadata = lambda volume: '{"version": 2}'
    driver.put_metadata = lambda volume, meta: restored.append(meta)
    quiet = mock.patch("cinder.volume.volume_utils.notify_about_backup_usage")
    find = mock.patch.object(objects.Backup, "get_by_id", lambda ctxt, id: rows[id])
    with quiet, find:
        if action == "backup":
            backup["status"] = "creating"
            timer = mock.Mock()
            with mock.patch("oslo_service.loopingcall.FixedIntervalLoopingCall", return_value=timer):
                with open(order["file"], "rb") as source:
                    driver.backup(backup, source)
        else:
            backup["status"] = "restoring"
            with open(order["file"], "r+b") as target:
                driver.restore(backup, backup["volume_id"], target, order["new"])
            assert len(restored) == len(order["parents"]) + 1
    print(json.dumps(backup))


main()
