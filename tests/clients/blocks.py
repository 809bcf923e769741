"""Blocks over iSCSI by initiators that are not ours: QEMU's tools and libiscsi's."""

import json
import subprocess

LIMIT_S = 60


class Disk:
    """An exported volume, as its attachment's connection info describes it to one initiator."""

    def __init__(self, connection_info, initiator):
        # Attachments give one flat object; os-initialize_connection gives `data` inside.
        data = connection_info.get("data", connection_info)
        self.portal = data["target_portal"]
        self.iqn = data["target_iqn"]
        self.lun = data["target_lun"]
        self.user = data.get("auth_username")
        self.password = data.get("auth_password")
        self.initiator = initiator

    @property
    def options(self):
        options = {
            "driver": "iscsi", "transport": "tcp", "portal": self.portal, "target": self.iqn, "lun": self.lun,
            "initiator-name": self.initiator,
        }
        if self.user:
            options |= {"user": self.user, "password": self.password}
        return "json:" + json.dumps({"driver": "raw", "file": options})

    @property
    def url(self):
        login = f"{self.user}%{self.password}@" if self.user else ""
        return f"iscsi://{login}{self.portal}/{self.iqn}/{self.lun}"

    def _io(self, *commands, read_only=False):
        arguments = ["qemu-io", "-t", "none"]
        if read_only:
            arguments.append("-r")
        for command in commands:
            arguments += ["-c", command]
        return run([*arguments, self.options])

    def write(self, pattern, offset, length):
        """Writes a byte pattern and flushes."""
        self._io(f"write -P {pattern:#x} {offset} {length}", "flush")

    def verify(self, pattern, offset, length):
        """Fails unless the range holds the pattern."""
        output = self._io(f"read -P {pattern:#x} {offset} {length}", read_only=True)
        assert "Pattern verification failed" not in output, f"{pattern:#x} is not at {offset}: {output}"

    def size(self):
        """Bytes, as a fresh session sees them."""
        return json.loads(run(["qemu-img", "info", "--output=json", self.options]))["virtual-size"]

    def inquiry(self):
        """The standard inquiry, by libiscsi."""
        return run(["iscsi-inq", "-i", self.initiator, self.url])

    def is_reachable(self):
        """Whether this initiator can log in and read."""
        command = ["qemu-io", "-r", "-c", "read 0 512", self.options]
        return subprocess.run(command, capture_output=True, timeout=LIMIT_S, check=False).returncode == 0


def discover(portal, initiator):
    """The targets that a portal tells an initiator of."""
    return run(["iscsi-ls", "-i", initiator, f"iscsi://{portal}"])


def run(command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    if done.returncode != 0:
        raise AssertionError(f"{command[0]} failed ({done.returncode}): {done.stdout}{done.stderr}")
    return done.stdout
