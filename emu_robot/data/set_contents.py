"""Which contents a LeRobotDataset has, whatever its folder is called: two sets of the same digest are the same set."""

import hashlib
from pathlib import Path

ENDS = 1 << 16
"""Of a video: bytes at its begin and end that are read. Its index of frames is among them."""


def digest_of(root: Path) -> str:
    """Hexadecimal digits over metadata and tables as a whole, and over sizes and ends of all other files.

    Other folders of the set, a cache of ours among them, do not count.
    """
    digest = hashlib.sha256()
    for part in ("meta", "data", "images", "videos"):
        for path in sorted(path for path in (root / part).rglob("*") if path.is_file()):
            digest.update(f"{path.relative_to(root).as_posix()} {path.stat().st_size}\n".encode())
            _add(digest, path, whole=part in ("meta", "data"))
    return digest.hexdigest()[:32]


def _add(digest: "hashlib._Hash", path: Path, *, whole: bool) -> None:
    with path.open("rb") as file:
        if whole:
            while block := file.read(1 << 22):
                digest.update(block)
            return
        digest.update(file.read(ENDS))
        file.seek(max(path.stat().st_size - ENDS, 0))
        digest.update(file.read(ENDS))
