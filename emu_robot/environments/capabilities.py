"""What an environment may offer: protocols, asked for by `isinstance`, or by `require` where there is no other way.

Knows neither torch nor a simulator.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from emu_robot.core import Floats32, Image, Observation, PlanStep, Transition
from emu_robot.environments.contract import Environment
from emu_robot.errors import InvalidValueError


@runtime_checkable
class MixesTasks(Protocol):
    """A suite one of whose worlds can play several tasks: every seed draws one."""

    def open_mixed(self, tasks: Sequence[str], split: str) -> Environment: ...


@runtime_checkable
class RendersOnDemand(Environment, Protocol):
    """Pictures may be left out of a step and taken later; recognised by `observe`.

    With observe=False the observation of `reset` or `step` has no images.
    """

    def observe(self) -> Observation: ...

    def reset(self, seed: int, *, observe: bool = True) -> Observation: ...

    def step(self, action: Floats32, *, observe: bool = True) -> Transition: ...


@runtime_checkable
class Renders(Protocol):
    """Pictures of any size, for clips."""

    def render(self, camera: str, size: int) -> Image:
        """(H, W, 3) of a camera of the spec; `size` [px] is its longer side."""
        ...


@runtime_checkable
class HasSubtasks(Protocol):
    """The true subtasks of the present episode. `Transition.subtasks_done` then has one entry for each."""

    @property
    def subtasks(self) -> tuple[str, ...]:
        """Their words, in order."""
        ...

    @property
    def subtask_index(self) -> int:
        """The first one that is not done; their number when all are."""
        ...


@runtime_checkable
class HasOracle(Protocol):
    """Knows the true next subtask and what its completion will look like."""

    def oracle_step(self) -> PlanStep | None:
        """The next step with its subgoal image in the planner's view; None when nothing is left. Changes nothing."""
        ...


class Expert(Protocol):
    """A closed-loop demonstrator."""

    def action(self) -> Floats32:
        """(A,) the action for the world's present state."""
        ...


@runtime_checkable
class HasExpert(Protocol):
    """Can demonstrate its own tasks."""

    def expert(self) -> Expert:
        """An expert for the episode that the last `reset` began."""
        ...


class FailureWatch(Protocol):
    """Follows one episode to say why it failed."""

    def after(self, action: Floats32) -> None:
        """The action was executed; the world is as it left it."""
        ...

    def diagnose(self) -> tuple[str, str] | None:
        """(kind, detail), the kind from the spec's `failure_kinds`; None if the facts do not show any of them."""
        ...


@runtime_checkable
class KnowsFailures(Protocol):
    """Can say why an episode failed beyond what any policy shows (stopped early, wrong plan step, timeout)."""

    def failure_watch(self) -> FailureWatch:
        """A watch for the episode that the last `reset` began."""
        ...


@runtime_checkable
class LocatesObjects(Protocol):
    """Knows where things are in a picture, to judge predicted pictures."""

    @property
    def due_object(self) -> str | None:
        """Name of the object that the subtask at `subtask_index` moves, if any."""
        ...

    def object_pixels(self, camera: str) -> dict[str, tuple[float, float] | None]:
        """Name -> (u, v) [px] in an observation's picture; None if hidden."""
        ...


@runtime_checkable
class LocatesGripper(Protocol):
    """Knows where the gripper is in a picture and how far it is open."""

    @property
    def gripper_opening(self) -> float:
        """In [0, 1], 1 = open."""
        ...

    def gripper_pixel(self, camera: str) -> tuple[float, float]:
        """(u, v) [px] in an observation's picture, also where it is hidden or outside."""
        ...


@runtime_checkable
class PlaysChains(Protocol):
    """Can lay out scenes with a long chain of subtasks, to look far ahead."""

    def reset_chain(self, seed: int) -> Observation:
        """Begin an episode whose `subtasks` are such a chain."""
        ...


CAPABILITIES: Mapping[type, str] = {
    RendersOnDemand: "rendering on demand",
    Renders: "pictures of any size",
    HasSubtasks: "true subtasks",
    HasOracle: "oracle steps",
    HasExpert: "an expert",
    KnowsFailures: "failure kinds",
    LocatesObjects: "places of objects",
    LocatesGripper: "the place of the gripper",
    PlaysChains: "chains of subtasks",
}


def require[T](world: Environment, capability: type[T], purpose: str) -> T:
    """The world, if it has the capability that `purpose` needs; else `InvalidValueError` says what it offers."""
    if isinstance(world, capability):
        return world
    offered = [words for known, words in CAPABILITIES.items() if isinstance(world, known)]
    raise InvalidValueError(
        f"{purpose} needs {CAPABILITIES[capability]}, which the environment does not offer; "
        f"it offers {', '.join(offered) or 'nothing optional'}"
    )


def step_world(world: Environment, action: Floats32, *, observe: bool) -> Transition:
    """One control tick; with observe=False a world that can leaves the pictures out."""
    if isinstance(world, RendersOnDemand):
        return world.step(action, observe=observe)
    return world.step(action)


def with_images(world: Environment, observation: Observation) -> Observation:
    """The present observation with its pictures; `observation` is the last one that the world gave."""
    if observation.images or not isinstance(world, RendersOnDemand):
        return observation
    return world.observe()


def due_subtask(world: Environment) -> str | None:
    """Words of the first subtask that is not done; None when all are, or where the world does not tell."""
    if not isinstance(world, HasSubtasks) or world.subtask_index >= len(world.subtasks):
        return None
    return world.subtasks[world.subtask_index]
