"""`emu-robot doctor`: what this machine has, and how to get what it lacks."""

from collections.abc import Sequence

from emu_robot.doctor import report, run_checks


def run(arguments: Sequence[str]) -> int:
    """Exit status 1 if something required is missing."""
    if arguments:
        print(__doc__)
        return 0 if arguments[0] in ("-h", "--help") else 2
    return 0 if report(run_checks()) else 1
