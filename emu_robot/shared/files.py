"""Files that survive a kill: atomic JSON, one writer per directory, disk space asked for before it is needed."""

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from emu_robot.errors import ConfigError, SystemSetupError


def replace_json(path: Path, value: object) -> None:
    """Write JSON so that after a kill or power loss `path` holds either the old value or the new one."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("w") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def settings_of(config: Any, continuable: Sequence[str]) -> dict[str, Any]:
    """A dataclass as JSON values, but for the fields that may differ when its work is continued."""
    return json.loads(json.dumps({name: value for name, value in asdict(config).items() if name not in continuable}))


def check_settings(what: str, settings: Mapping[str, Any], before: Mapping[str, Any]) -> None:
    """Raise `ConfigError` naming every setting that is not what it was `before`; what: "<path> was collected"."""
    changed = [f"{k}={settings[k]!r} (was {before.get(k)!r})" for k in settings if settings[k] != before.get(k)]
    if changed:
        raise ConfigError(f"{what} with another configuration: {', '.join(changed)}")


def lock_directory(path: Path) -> IO[str]:
    """Be the only writer to `path` while the returned file is open; the lock ends with the process.

    Raises `SystemSetupError` if another process holds it.
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
