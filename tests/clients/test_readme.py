"""The README's tours, run as they stand there against the service under test."""

import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

from .service import service

README = pathlib.Path(__file__).parents[2] / "README.md"
ENDPOINT = "http://127.0.0.1:8776/v3"
LIMIT_S = 300


def tours():
    """The shell blocks that are marked as a tour."""
    return re.findall(r"^```sh tour\n(.*?)^```$", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


class Readme(unittest.TestCase):
    def run_tour(self, script):
        running = service()
        with tempfile.TemporaryDirectory() as folder:
            # What the README calls `cinderblock` is the binary under test.
            os.symlink(os.path.abspath(os.environ["CINDERBLOCK_BIN"]), os.path.join(folder, "cinderblock"))
            paths = [folder, os.path.dirname(sys.executable), os.environ["PATH"]]
            clean = {name: value for name, value in os.environ.items() if not name.startswith("OS_")}
            environment = clean | {"PATH": os.pathsep.join(paths), "CINDERBLOCK_ENDPOINT": running.endpoint}
            script = script.replace(ENDPOINT, running.endpoint)
            return subprocess.run(
                ["bash", "-euo", "pipefail", "-x", "-c", script],
                capture_output=True, text=True, timeout=LIMIT_S, check=False, env=environment,
            )

    def test_every_tour_runs_to_its_end(self):
        found = tours()
        self.assertEqual(len(found), 2, "the README's tours are marked ```sh tour")
        for script in found:
            with self.subTest(script.splitlines()[1]):
                done = self.run_tour(script)
                self.assertEqual(done.returncode, 0, f"{done.stdout}\n{done.stderr}")

    def test_the_stock_tour_ends_with_services_that_are_up(self):
        done = self.run_tour("export OS_AUTH_TYPE=none OS_ENDPOINT=" + ENDPOINT + "\nopenstack volume service list -f value")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("cinder-volume", done.stdout)
        self.assertNotIn("down", done.stdout)

    def test_a_failure_has_the_exit_code_that_the_documents_promise(self):
        for script, code in [
            ("cinderblock volume show no-such-volume", 3),
            ("cinderblock volume create x --size nonsense", 2),
            ("cinderblock volume create x --size 99999999", 4),
            ("cinderblock volume list --endpoint http://127.0.0.1:9/v3", 6),
        ]:
            done = self.run_tour(script)
            self.assertEqual(done.returncode, code, f"{script}: {done.stderr}")


if __name__ == "__main__":
    unittest.main()
