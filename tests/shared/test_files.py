"""Atomic writes: processes that die, collide or run out of space leave the old file or the new one, and no rubbish."""

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from emu_robot.shared.files import ABANDONED_S, replace_bytes, replace_json, replace_text, replacing

ROOT = Path(__file__).parents[2]
KILLED = """
import os, signal, sys
from pathlib import Path
from emu_robot.shared.files import replacing
with replacing(Path(sys.argv[1])) as partial:
    partial.write_text("half of the ne")
    os.kill(os.getpid(), signal.SIGKILL)
"""
OUT_OF_SPACE = """
import resource, signal, sys
from pathlib import Path
from emu_robot.shared.files import replace_bytes
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    replace_bytes(Path(sys.argv[1]), b"x" * 100_000)
except OSError as error:
    sys.exit(f"refused: {error.strerror}")
"""
WRITER = """
import sys
from pathlib import Path
from emu_robot.shared.files import replace_text
for _ in range(300):
    replace_text(Path(sys.argv[1]), sys.argv[2] * 20_000)
"""


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "kept.txt"
    path.write_text("old")
    return path


def test_a_kill_while_writing_leaves_the_old_file(file: Path) -> None:
    assert start(KILLED, file).wait() == -signal.SIGKILL
    assert file.read_text() == "old"
    (partial,) = (path for path in file.parent.iterdir() if path != file)
    assert partial.read_text() == "half of the ne" and partial.name.endswith(".partial")

    replace_text(file, "new")
    assert partial.exists()  # it might be another writer's that is at work
    changed_at = partial.stat().st_mtime - ABANDONED_S - 1
    os.utime(partial, (changed_at, changed_at))
    replace_text(file, "newer")
    assert list(file.parent.iterdir()) == [file] and file.read_text() == "newer"


def test_abandoned_files_of_other_names_stay(file: Path) -> None:
    other = file.with_name(".other[0].txt.0123.partial")
    other.touch()
    os.utime(other, (0, 0))
    replace_text(file, "new")
    assert other.exists()
    replace_text(file.with_name("other[0].txt"), "its own")
    assert not other.exists()


def test_a_write_that_the_disk_refuses_leaves_the_old_file_and_nothing_else(file: Path) -> None:
    process = start(OUT_OF_SPACE, file)
    assert process.communicate()[1] == "refused: File too large\n"
    assert list(file.parent.iterdir()) == [file] and file.read_text() == "old"


def test_a_block_that_raises_leaves_the_old_file_and_nothing_else(file: Path) -> None:
    with pytest.raises(KeyboardInterrupt), replacing(file) as partial:
        partial.write_text("half")
        raise KeyboardInterrupt
    with pytest.raises(FileNotFoundError), replacing(file):
        pass  # writes nothing
    with pytest.raises(TypeError, match="not JSON serializable"):
        replace_json(file, {"path": file})
    assert list(file.parent.iterdir()) == [file] and file.read_text() == "old"


def test_two_processes_never_mix_what_they_write(file: Path) -> None:
    whole = {letter * 20_000 for letter in "ab"}
    replace_text(file, min(whole))
    writers, seen = [start(WRITER, file, letter) for letter in "ab"], set()
    while any(writer.poll() is None for writer in writers):
        seen.add(file.read_text())
    assert [writer.communicate()[1] for writer in writers] == ["", ""]
    assert seen == whole and list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_a_file_has_the_permissions_of_any_new_one(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        (tmp_path / "plain").touch()
        replace_bytes(tmp_path / "ours", b"")
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "ours")]
    assert modes[0] == modes[1] == 0o666 & ~mask


def test_missing_folders_are_made_and_json_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "a/b/c.json"
    replace_json(path, {"words": "über"})
    assert path.read_bytes() == b'{\n "words": "\\u00fcber"\n}\n'
    replace_text(path, "über")
    assert path.read_bytes() == "über".encode()


def test_only_one_place_replaces_files() -> None:
    """The replay buffer's own sync is that of a file that it appends to."""
    sources = [path for folder in ("emu_robot", "sim", "ros_ws/src") for path in (ROOT / folder).rglob("*.py")]
    syncing = {path.relative_to(ROOT).as_posix() for path in sources if "fsync(" in path.read_text()}
    assert syncing == {"emu_robot/shared/files.py", "emu_robot/data/replay_buffer.py"}
