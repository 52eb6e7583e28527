"""Two real workers of Ray, which listen on every interface: so they get a network of their own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("ray")

ALONE = ["unshare", "--net", "--map-root-user", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]


def can_be_alone():
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        return False
    return subprocess.run([*ALONE, "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not can_be_alone(), reason="no network namespace may be made here")
def test_fits_and_files_are_those_of_one_process_though_a_worker_dies(tmp_path):
    here = Path(__file__).parent
    # Ray has sockets of Unix in its folder, the names of which must be short.
    paths = [str(here.parent), *sys.path, os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [*ALONE, sys.executable, str(here / "on_ray.py"), str(tmp_path)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "all is well" in done.stdout
