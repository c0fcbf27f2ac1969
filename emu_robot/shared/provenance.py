"""Version and commit of this software, for records of what made a file."""

import importlib.metadata
import subprocess
from pathlib import Path


def version() -> str:
    """Version of the installed package; empty if it runs from a source tree that is not installed."""
    try:
        return importlib.metadata.version("emu_robot")
    except importlib.metadata.PackageNotFoundError:
        return ""


def commit() -> str | None:
    """The git commit of this source tree, with "+changes" if it is not clean; None outside a repository."""
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        return None
    try:
        head = _git(folder, "rev-parse", "--short=12", "HEAD")
        return head + ("+changes" if _git(folder, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    run = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=10)
    return run.stdout.strip()
