"""Optional capabilities of environments, as protocols for `isinstance` and `require`.

Knows neither torch nor a simulator.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable

from emu_robot.core import Fact, Floats32, Image, Observation, PlanStep, Transition
from emu_robot.environments.contract import Environment, Suite
from emu_robot.errors import InvalidValueError
from emu_robot.robots.arm import Arm


@runtime_checkable
class MixesTasks(Protocol):
    """A suite whose worlds can play several tasks."""

    def open_mixed(self, tasks: Sequence[str], split: str) -> Environment:
        """A world that draws one of the tasks for every seed. The caller closes it."""
        ...


@runtime_checkable
class MadeByText(Protocol):
    """A class of suites that stands for many environments: the text after `name:` chooses one."""

    def from_text(self, text: str) -> Suite:
        """The suite that the text describes; the text is empty if the name has none. A class method."""
        ...


@runtime_checkable
class NumbersSeeds(Protocol):
    """A suite with a rule of its own for the seeds of an evaluation, for instance that of a benchmark."""

    def episode_seed(self, seed: int, number: int) -> int:
        """The seed of episode `number` (from 0) of every task, in an evaluation with `seed=`."""
        ...


@runtime_checkable
class NumbersEpisodes(Protocol):
    """A world whose episodes depend on their number, too, for instance by a list of initial states."""

    def reset_numbered(self, seed: int, number: int) -> Observation:
        """Begin episode `number` (from 0) of the task. `reset(seed)` begins that of number `seed`."""
        ...


@runtime_checkable
class RendersOnDemand(Environment, Protocol):
    """A world that can leave the pictures out of a step and render them later."""

    def observe(self) -> Observation:
        """The present observation with images."""
        ...

    def reset(self, seed: int, *, observe: bool = True) -> Observation:
        """As `Environment.reset`; without images if observe=False."""
        ...

    def step(self, action: Floats32, *, observe: bool = True) -> Transition:
        """As `Environment.step`; without images if observe=False."""
        ...


@runtime_checkable
class Renders(Protocol):
    """A world that renders pictures of any size, for clips."""

    def render(self, camera: str, size: int) -> Image:
        """The picture (H, W, 3) of a camera of the spec. size: longer side [px]."""
        ...


@runtime_checkable
class HasSubtasks(Protocol):
    """A world that tells the true subtasks. `Transition.subtasks_done` then has one entry for each."""

    @property
    def subtasks(self) -> tuple[str, ...]:
        """The subtasks of the present episode in words, in order."""
        ...

    @property
    def subtask_index(self) -> int:
        """Index of the first subtask that is not done; the number of subtasks when all are."""
        ...


@runtime_checkable
class MayNeedMemory(Protocol):
    """A world with tasks whose next subtask does not follow from instruction and present picture alone."""

    @property
    def needs_memory(self) -> bool:
        """Whether the present episode's task is such a task, for instance "then put it back"."""
        ...


@runtime_checkable
class JudgesSubtasks(Protocol):
    """A world that judges any subtask in words, also one that is not due."""

    def holds(self, subtask: str) -> bool | None:
        """Whether the result of this subtask holds now and the robot has let go; None if the words are no subtask of
        the present scene. Changes nothing."""
        ...


@runtime_checkable
class HasOracle(Protocol):
    """A world that knows the true next subtask and the image of its completion."""

    def oracle_step(self) -> PlanStep | None:
        """The next step with its subgoal image in the planner's view; None when none is left. Changes nothing."""
        ...


class Expert(Protocol):
    """A closed-loop demonstrator."""

    def action(self) -> Floats32:
        """The action (A,) for the world's present state."""
        ...


@runtime_checkable
class HasExpert(Protocol):
    """A world that can demonstrate its own tasks."""

    def expert(self) -> Expert:
        """An expert for the episode that the last `reset` began."""
        ...


class FailureWatch(Protocol):
    """Follows one episode to find why it failed."""

    def after(self, action: Floats32) -> None:
        """The action was executed; the world is in the state after it."""
        ...

    def diagnose(self) -> tuple[str, str] | None:
        """(kind, detail) with a kind of the spec's `failure_kinds`; None if the facts show none of them."""
        ...


@runtime_checkable
class KnowsFailures(Protocol):
    """A world that finds more failure kinds than any policy shows (stopped early, wrong plan step, timeout)."""

    def failure_watch(self) -> FailureWatch:
        """A watch for the episode that the last `reset` began."""
        ...


@runtime_checkable
class LocatesObjects(Protocol):
    """A world that locates objects in a picture, to judge predicted pictures."""

    @property
    def due_object(self) -> str | None:
        """Name of the object that the subtask at `subtask_index` moves; None if it moves none."""
        ...

    def object_pixels(self, camera: str) -> dict[str, tuple[float, float] | None]:
        """Object name -> (u, v) [px] in an observation's picture; None if hidden."""
        ...


@runtime_checkable
class LocatesGripper(Protocol):
    """A world that locates the gripper in a picture and knows its opening."""

    @property
    def gripper_opening(self) -> float:
        """Opening in [0, 1], 1 = open."""
        ...

    def gripper_pixel(self, camera: str) -> tuple[float, float]:
        """(u, v) [px] in an observation's picture, also if it is hidden or outside."""
        ...


@runtime_checkable
class KeepsCompositions(Protocol):
    """A world whose splits keep compositions from demonstrations, such as an object and a receptacle."""

    @property
    def compositions(self) -> tuple[str, ...]:
        """The kept compositions of the present episode, for instance "red can, drawer"; none in the split "seen"."""
        ...

    @property
    def due_composition(self) -> str | None:
        """That of the subtask at `subtask_index`; None if it is not kept."""
        ...


class MomentKind(StrEnum):
    """What a moment of a laid out episode shows."""

    START = "start"
    """The scene before the first subtask."""
    KEYFRAME = "keyframe"
    """A subtask is complete."""
    ATTEMPT = "attempt"
    """The due subtask was tried and is not complete."""
    UNDERWAY = "underway"
    """The arm is on its way through the due subtask."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Moment:
    """One moment of an episode that is laid out without motion."""

    kind: MomentKind
    """What it shows."""
    image: Image
    """The picture of the planner's camera."""
    state: Floats32
    """(S,) state of the robot."""
    facts: Mapping[str, Fact]
    """Name of an object or of a thing that opens -> where it is."""


@runtime_checkable
class LaysOut(Protocol):
    """A world that shows what subtasks leave, without motion: many pictures for little time."""

    def lay_out(self, seed: int, *, disturbed: float = 0.0, instructions: int = 1) -> Sequence[Moment]:
        """Begin the episode of `seed`, and give its moments, a start and one keyframe for each subtask among them.

        disturbed: share of the subtasks with an attempt or a moment under way. instructions: number of seeds in a row
        that share one scene, each with another instruction if the scene allows it.
        """
        ...


@runtime_checkable
class PlaysChains(Protocol):
    """A world that can lay out scenes with a long chain of subtasks, for long plans."""

    def reset_chain(self, seed: int) -> Observation:
        """Begin an episode whose `subtasks` are a long chain."""
        ...


class Variation(StrEnum):
    """How an instruction differs from that of a scene's own task."""

    SWAPPED = "swapped"
    """Two of its objects or receptacles exchange their roles, or another one takes the role of one of them."""
    REORDERED = "reordered"
    """The same steps, named in the other order."""
    NEGATED = "negated"
    """The same steps, named in the task's order by words that reverse it, such as "before"."""
    RESTATED = "restated"
    """The task itself, by words of the kind of `NEGATED`, such as "after": what unfamiliar words cost."""
    COUNTERFACTUAL = "counterfactual"
    """Another task that the scene allows, without a step in common."""


@runtime_checkable
class VariesInstructions(Protocol):
    """A world that can ask for something else in the scene of a seed."""

    def variations(self, seed: int) -> Mapping[Variation, str]:
        """Variation -> instruction, for those that the scene of the seed allows. Changes nothing."""
        ...

    def reset_varied(self, seed: int, variation: Variation | None) -> Observation:
        """Begin the episode of `seed` in its own scene, and ask for the variation; None: for the scene's own task."""
        ...

    @property
    def asked_done(self) -> bool:
        """Whether what `reset_varied` asked for is done now, in the order that its words name, if they name one."""
        ...

    @property
    def original_done(self) -> bool:
        """The same for the scene's own task."""
        ...


@runtime_checkable
class HasArm(Protocol):
    """A world with an arm that an operator can drive at any rate."""

    def arm(self, image_size: int) -> Arm:
        """The arm, with pictures of `image_size` [px]. It closes the world."""
        ...


CAPABILITIES: Mapping[type, str] = {
    RendersOnDemand: "rendering on demand",
    Renders: "pictures of any size",
    HasSubtasks: "true subtasks",
    JudgesSubtasks: "a judgement of any subtask",
    HasOracle: "oracle steps",
    HasExpert: "an expert",
    KnowsFailures: "failure kinds",
    LocatesObjects: "places of objects",
    LocatesGripper: "the place of the gripper",
    KeepsCompositions: "kept compositions",
    LaysOut: "layouts without motion",
    PlaysChains: "chains of subtasks",
    VariesInstructions: "variations of its instructions",
    HasArm: "an arm to drive",
}


def require[T](world: Environment, capability: type[T], purpose: str) -> T:
    """The world, if it has the capability that `purpose` needs.

    Raises `InvalidValueError` naming the capabilities that it has.
    """
    if isinstance(world, capability):
        return world
    offered = [words for known, words in CAPABILITIES.items() if isinstance(world, known)]
    raise InvalidValueError(
        f"{purpose} needs {CAPABILITIES[capability]}, which the environment does not offer; "
        f"it offers {', '.join(offered) or 'nothing optional'}"
    )


def step_world(world: Environment, action: Floats32, *, observe: bool) -> Transition:
    """One control tick. With observe=False, a world that renders on demand leaves the pictures out."""
    if isinstance(world, RendersOnDemand):
        return world.step(action, observe=observe)
    return world.step(action)


def with_images(world: Environment, observation: Observation) -> Observation:
    """The present observation with its pictures. observation: the last observation of the world."""
    if observation.images or not isinstance(world, RendersOnDemand):
        return observation
    return world.observe()


def due_subtask(world: Environment) -> str | None:
    """Words of the first subtask that is not done; None when all are, or if the world does not tell."""
    if not isinstance(world, HasSubtasks) or world.subtask_index >= len(world.subtasks):
        return None
    return world.subtasks[world.subtask_index]
