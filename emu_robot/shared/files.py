"""Files that survive a kill: atomic writes, one writer per directory, a check of disk space in advance."""

import ctypes
import errno
import fcntl
import glob
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from emu_robot.errors import ConfigError, SystemSetupError

RENAME_EXCHANGE = 2
"""Linux's flag of renameat2 that swaps two names."""
HERE = -100
"""Linux's AT_FDCWD: paths are relative to the working directory."""
ABANDONED_S = 24 * 3600.0
"""A partial file that did not change for this long was left by a kill [s]."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a new path in the folder of `path`. When the block ends, the file written there becomes `path`.

    After a kill or power loss `path` holds either the old content or the new. Missing folders are made. If the block
    raises, its file is removed and `path` stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(path)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")
    try:
        yield partial
        _sync(partial)
        partial.replace(path)
        _sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def require_own_folder(path: Path, record: str, kind: str) -> None:
    """Raise `ConfigError` if `path` is a file, or a folder that holds anything but not `record`, the mark of its kind.

    So results never mix with the files of others, nor replace them.
    """
    if path.exists() and not path.is_dir():
        raise ConfigError(f"out={path} is a file; it must be a folder, new or empty")
    if path.is_dir() and any(path.iterdir()) and not (path / record).exists():
        raise ConfigError(f"out={path} holds other files and no {kind} (no {record}); choose a new or empty folder")


def replace_bytes(path: Path, content: bytes) -> None:
    """Write `content` as `replacing` does."""
    with replacing(path) as partial:
        partial.write_bytes(content)


def copy_file(source: Path, path: Path) -> None:
    """Copy the content of `source` to `path` as `replacing` does."""
    with replacing(path) as partial:
        shutil.copyfile(source, partial)


def replace_text(path: Path, text: str) -> None:
    """Write `text` in UTF-8 as `replacing` does."""
    replace_bytes(path, text.encode())


def replace_json(path: Path, value: object) -> None:
    """Write JSON as `replacing` does. Raises `TypeError` for a value that JSON does not know."""
    replace_text(path, json.dumps(value, indent=1) + "\n")


def replace_folder(new: Path, path: Path, spare: Path) -> None:
    """`path` becomes the folder `new`; its old content, if any, goes to `spare`. All lie on one file system.

    `path` never goes missing where the file system can swap names (ext4, XFS, Btrfs, tmpfs). Elsewhere it is away
    between two renames, and `recover_folder` puts the old one back after a kill.
    """
    shutil.rmtree(spare, ignore_errors=True)
    if not path.exists():
        new.replace(path)
    elif _swap(new, path):
        new.replace(spare)
    else:
        path.replace(spare)
        new.replace(path)
    _sync(path.parent)


def recover_folder(path: Path, spare: Path) -> None:
    """Put the old folder back if `replace_folder` was killed between its two renames."""
    if spare.exists() and not path.exists():
        spare.replace(path)


def _swap(one: Path, other: Path) -> bool:
    """Swap two names at once; False if this system cannot."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    return renameat2 is not None and not renameat2(HERE, os.fsencode(one), HERE, os.fsencode(other), RENAME_EXCHANGE)


def link_or_copy(source: str | Path, target: str | Path) -> None:
    """Make the new file `target` a hard link to `source`, or a copy where the file system has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def make_readable(root: Path) -> None:
    """Let all users read what is in a folder; the videos that LeRobot writes are private to one."""
    for path in root.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def sync_folder(root: Path) -> None:
    """Wait until a folder and all in it are on the disk."""
    for path in (*root.rglob("*"), root):
        _sync(path)


def _remove_abandoned(path: Path) -> None:
    for partial in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
        with suppress(FileNotFoundError):  # another writer has removed it
            if time.time() - partial.stat().st_mtime > ABANDONED_S:
                partial.unlink()


def _sync(path: Path) -> None:
    """Wait until a file's content, or a folder's names, are on the disk."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def settings_of(config: Any, continuable: Sequence[str]) -> dict[str, Any]:
    """A dataclass as JSON values, without the fields that may differ when its work is continued."""
    return json.loads(json.dumps({name: value for name, value in asdict(config).items() if name not in continuable}))


def check_settings(what: str, settings: Mapping[str, Any], before: Mapping[str, Any]) -> None:
    """Raise `ConfigError` naming every setting that differs from `before`. what: "<path> was collected"."""
    changed = [f"{k}={settings[k]!r} (was {before.get(k)!r})" for k in settings if settings[k] != before.get(k)]
    if changed:
        raise ConfigError(f"{what} with another configuration: {', '.join(changed)}")


def lock_directory(path: Path) -> IO[str]:
    """Lock `path` for one writer while the returned file is open; the lock ends with the process.

    Raises `SystemSetupError` if another process holds the lock.
    """
    file = (path / ".lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise SystemSetupError(f"{path}: another process is writing here") from None
    return file


def require_disk_space(path: Path, n_bytes: int) -> None:
    """Raise `SystemSetupError` unless the disk of `path` (or of its nearest existing parent) has n_bytes free."""
    existing = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < n_bytes:
        raise SystemSetupError(f"{path}: about {n_bytes / 1e9:.1f} GB needed, {free / 1e9:.1f} GB free on this disk")


@contextmanager
def disk_full_as_setup_error(path: Path) -> Iterator[None]:
    """Turn "no space left" and an exceeded quota into one `SystemSetupError` line."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise SystemSetupError(f"{path}: the disk is full; what was committed before is intact") from error
