"""Digest of a LeRobotDataset's contents. Sets with equal digests are the same set, in any folder."""

import hashlib
from pathlib import Path

ENDS = 1 << 16
"""Bytes read at the begin and end of a video; its index of frames is among them."""


def digest_of(root: Path) -> str:
    """Hexadecimal digest of whole metadata and tables, and of sizes and ends of all other files.

    Other folders of the set, such as our cache, do not count.
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
