"""The memory of an emergency stop, kept for one gate at a time."""

import subprocess
import sys
from pathlib import Path

import pytest

from emu_robot.control.safety import EstopLatch
from emu_robot.errors import SystemSetupError


def test_two_gates_cannot_share_one_memory(tmp_path: Path):
    path = tmp_path / "ur5e.estop"
    first = EstopLatch(path)
    first.set("operator")
    with pytest.raises(SystemSetupError, match="another gate that runs: give each arm a namespace"):
        EstopLatch(path)
    first.close()
    assert EstopLatch(path).reason == "operator"


def test_a_gate_that_was_killed_leaves_its_memory_to_the_next_one(tmp_path: Path):
    path = tmp_path / "ur5e.estop"
    code = (
        "import os, sys; from pathlib import Path; from emu_robot.control.safety import EstopLatch\n"
        "latch = EstopLatch(Path(sys.argv[1])); latch.set('killed'); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert EstopLatch(path).reason == "killed"


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"\n\n"])
def test_a_file_of_any_content_is_a_stop(tmp_path: Path, content: bytes):
    path = tmp_path / "estop"
    path.write_bytes(content)
    assert EstopLatch(path).reason


def test_a_folder_in_its_place_is_said(tmp_path: Path):
    (tmp_path / "estop").mkdir()
    with pytest.raises(SystemSetupError, match="cannot keep an emergency stop"):
        EstopLatch(tmp_path / "estop")
