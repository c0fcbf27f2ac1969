"""One dimension of a LeRobotDataset's feature, and what is known of it."""

from dataclasses import dataclass
from fnmatch import fnmatchcase

from emu_robot.robots.spec import DimensionKind


@dataclass(frozen=True, kw_only=True)
class Column:
    """One dimension of a feature."""

    feature: str
    index: int
    """In the feature."""
    place: int
    """In the features that are joined."""
    name: str
    whole: bool
    """It holds booleans or integers."""
    kind: DimensionKind | None = None
    """None while it is not known."""
    why: str = "not known"
    """What `kind` was told from, in words."""
    period: float = 0.0
    """Of an angle: a full turn, in the unit of its numbers."""
    wraps: bool = False
    """It goes around at least once."""

    @property
    def path(self) -> str:
        """Its feature and its name, which say it where the name alone stands for several."""
        return self.name if self.name.startswith(f"{self.feature}.") else f"{self.feature}.{self.name}"

    def is_called(self, wanted: str) -> bool:
        """By its name, by feature and name, or by feature and number."""
        return wanted in self._called

    def matches(self, wanted: str) -> bool:
        """It is called so, or so with wildcards."""
        return self.is_called(wanted) or any(fnmatchcase(name, wanted) for name in self._called)

    @property
    def _called(self) -> tuple[str, str, str]:
        return self.name, self.path, f"{self.feature}.{self.index}"
