"""One dimension of a LeRobotDataset's feature, and what is known about it."""

from dataclasses import dataclass
from fnmatch import fnmatchcase

from emu_robot.robots.spec import DimensionKind


@dataclass(frozen=True, kw_only=True)
class Column:
    """One dimension of a feature."""

    feature: str
    index: int
    """Index in the feature."""
    place: int
    """Index in the joined features."""
    name: str
    whole: bool
    """Whether it holds booleans or integers."""
    kind: DimensionKind | None = None
    """Kind of its numbers; None while unknown."""
    why: str = "not known"
    """Evidence for `kind`, in words."""
    period: float = 0.0
    """A full turn of an angle, in the unit of its numbers; 0: no angle."""
    wraps: bool = False
    """Whether it goes around at least once."""

    @property
    def path(self) -> str:
        """Feature and name. They are unique where the name alone is not."""
        return self.name if self.name.startswith(f"{self.feature}.") else f"{self.feature}.{self.name}"

    def is_called(self, wanted: str) -> bool:
        """Whether `wanted` is its name, its feature and name, or its feature and number."""
        return wanted in self._called

    def matches(self, wanted: str) -> bool:
        """Whether `wanted` is one of its names; wildcards are allowed."""
        return self.is_called(wanted) or any(fnmatchcase(name, wanted) for name in self._called)

    @property
    def _called(self) -> tuple[str, str, str]:
        return self.name, self.path, f"{self.feature}.{self.index}"
