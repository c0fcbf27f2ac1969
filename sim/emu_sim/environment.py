"""The environment of the tabletop with all optional capabilities: oracle, experts, failures, places of objects."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emu_robot.core import Image, Observation, PlanStep, Transition
from emu_robot.environments.capabilities import Moment, Variation
from emu_robot.environments.contract import SEEN, EnvironmentSpec
from emu_robot.errors import InvalidValueError, ShapeError, UnknownNameError
from emu_robot.robots.spec import PANDA
from emu_robot.shared.words import folded
from emu_sim.arm import TabletopArm
from emu_sim.experts import Expert
from emu_sim.failures import TabletopFailures
from emu_sim.grammar import TABLETOP, Grammar, Subtask, Task, subtasks_of
from emu_sim.laid_out import lay_out
from emu_sim.layout import Layout, can_push, sample_layout
from emu_sim.outcomes import Outcomes
from emu_sim.predicates import Achievement, final_goals, subtask_holds
from emu_sim.suite import spec_of
from emu_sim.tasks import counterfactuals, sample_chain, sample_task
from emu_sim.variations import variations
from emu_sim.world import SUBSTEPS, World

STEPS_PER_SUBTASK = 180  # control ticks; experts need about 80
HOME_TOLERANCE = 0.12  # [rad]


class TabletopEnvironment:
    """Every seed gives a random task of the families in the split.

    families: names of families or of the groups "single", "long", "all". split: one of the grammar's.
    robot and cameras are checked by name: the tabletop has a Panda with the cameras of its `RobotSpec`.
    """

    def __init__(
        self,
        families: Sequence[str] = ("single",),
        split: str = SEEN,
        robot: str = PANDA.name,
        cameras: Sequence[str] = PANDA.cameras,
        grammar: Grammar = TABLETOP,
    ) -> None:
        if robot != PANDA.name:
            raise UnknownNameError(f"robot of environment {grammar.name}", robot, [PANDA.name])
        for camera in cameras:
            if camera not in PANDA.cameras:
                raise UnknownNameError("camera", camera, PANDA.cameras)
        self.grammar = grammar
        self.spec: EnvironmentSpec = spec_of(grammar)
        self.families = grammar.resolve(families, split)
        self.split = split
        self.cameras = tuple(cameras)
        self.world = World(grammar)
        self.task: Task = sample_task(grammar, self.families, split, np.random.default_rng(0))
        self._goals = final_goals(self.task)
        self._achieved = self._done = 0
        self._asked: Achievement | None = None
        self._original: Achievement | None = None
        self._outcomes: Outcomes | None = None

    @property
    def instruction(self) -> str:
        return self.task.instruction

    @property
    def task_name(self) -> str:
        return self.task.family

    @property
    def needs_memory(self) -> bool:
        return self.task.needs_memory

    @property
    def subtasks(self) -> tuple[str, ...]:
        return tuple(subtask.text for subtask in self.task.subtasks)

    @property
    def max_steps(self) -> int:
        original = self._original.n_subtasks if self._original else 0
        return STEPS_PER_SUBTASK * max(original, len(self.task.subtasks))

    def reset(self, seed: int, *, observe: bool = True) -> Observation:
        """Sample task and layout from the seed alone."""
        rng = np.random.default_rng(seed)
        return self.reset_task(sample_task(self.grammar, self.families, self.split, rng), rng, observe=observe)

    def reset_chain(self, seed: int) -> Observation:
        """Lay out a scene for six subtasks in a row."""
        rng = np.random.default_rng(seed)
        return self.reset_task(sample_chain(self.grammar, self.split, rng), rng)

    def variations(self, seed: int) -> Mapping[Variation, str]:
        """Instructions that the scene of the seed allows beside its own, see `variations.py`."""
        return {variation: task.instruction for variation, task in self._varied(seed)[2].items()}

    def reset_varied(self, seed: int, variation: Variation | None) -> Observation:
        """Begin the episode of the seed in its own scene with another instruction; None: with its own.

        The time limit is that of the longer one of the two tasks. Raises `UnknownNameError` for a variation that the
        scene does not allow.
        """
        original, layout, others = self._varied(seed)
        if variation is not None and variation not in others:
            raise UnknownNameError(f"variation of scene {seed}", variation, others)
        self._begin(original if variation is None else others[variation])
        self.world.reset(layout)
        self._asked, self._original = Achievement(self.world, self.task), Achievement(self.world, original)
        return self.observe()

    def _varied(self, seed: int) -> tuple[Task, Layout, dict[Variation, Task]]:
        task, layout = self._retold(seed, 0)
        return task, layout, variations(self.grammar, task, layout, self.split, np.random.default_rng([seed, 5]))

    @property
    def asked_done(self) -> bool:
        """Whether the instruction of `reset_varied` is followed."""
        return self._asked is not None and self._asked.is_done

    @property
    def original_done(self) -> bool:
        """Whether the scene's own task is done in the episode that `reset_varied` began."""
        return self._original is not None and self._original.is_done

    def reset_task(self, task: Task, rng: np.random.Generator, *, observe: bool = True) -> Observation:
        """Sample a layout of the given task."""
        self._begin(task)
        self.world.reset(sample_layout(self.grammar, task, rng))
        return self.observe() if observe else self._blind()

    def lay_out(self, seed: int, *, disturbed: float = 0.0, instructions: int = 1) -> list[Moment]:
        """Begin the episode of `seed`, and give its moments without motion. Its first scene is that of `reset`.

        disturbed: share of the subtasks with an attempt or a moment under way, in [0, 1]. instructions: number of
        seeds in a row that share the scene of the first, each with another instruction if the scene allows it.
        """
        if self._outcomes is None:
            self._outcomes = Outcomes(self.world)
        task, layout = self._retold(seed, seed % instructions)
        self._begin(task)
        moments = lay_out(self._outcomes, task, layout, np.random.default_rng([seed, 3]), disturbed)
        self._done = self._achieved = len(task.subtasks)
        return moments

    def _retold(self, seed: int, n: int) -> tuple[Task, Layout]:
        """The n-th other task in the scene of the seed n places before; the seed's own task and scene without one."""
        first = np.random.default_rng(seed - n)
        task = sample_task(self.grammar, self.families, self.split, first)
        layout = sample_layout(self.grammar, task, first)
        if not n:
            return task, layout
        others = counterfactuals(self.grammar, task, self.split, np.random.default_rng([seed - n, 4]), n)
        possible = [other for other in others if can_push(layout, other)]
        return (possible[n - 1], layout) if len(possible) >= n else self._retold(seed, 0)

    def _begin(self, task: Task) -> None:
        self.task = task
        self._goals = final_goals(task)
        self._achieved = self._done = 0
        self._asked = self._original = None

    def step(self, action: NDArray[Any], *, observe: bool = True) -> Transition:
        """One control tick of 50 ms. observe=False leaves out the images, because rendering is most of the cost."""
        self.advance(action, SUBSTEPS)
        return Transition(
            observation=self.observe() if observe else self._blind(),
            success=self.success,
            subtasks_done=tuple(i < self._done for i in range(len(self.task.subtasks))),
        )

    def advance(self, action: NDArray[Any], substeps: int) -> None:
        """Run the physics alone for `substeps` of `SUBSTEP_S` [s], for command rates other than 20 Hz."""
        action = np.asarray(action, dtype=np.float64)
        if action.shape != (len(PANDA.action_names),):
            raise ShapeError("action", action.shape, f"({len(PANDA.action_names)},)")
        if not np.isfinite(action).all():
            raise InvalidValueError(f"action is not finite: {action.tolist()}")
        self.world.step(action, substeps)
        self._latch()
        for followed in (self._asked, self._original):
            if followed is not None:
                followed.update()

    def _latch(self) -> None:
        """Latch subtasks in order: achieved when the predicate holds, done once the arm is also at home."""
        steps = self.task.subtasks
        if self._achieved < len(steps) and subtask_holds(self.world, steps[self._achieved]):
            self._achieved += 1
        if self._done < self._achieved and self.at_home and subtask_holds(self.world, steps[self._done]):
            self._done += 1

    @property
    def at_home(self) -> bool:
        near = np.abs(self.world.joints - PANDA.home).max() < HOME_TOLERANCE
        return bool(near and self.world.gripper_opening > 0.8)

    @property
    def success(self) -> bool:
        """Whether every subtask was achieved in order and the task's final state holds."""
        if self._achieved < len(self.task.subtasks):
            return False
        return all(subtask_holds(self.world, goal) for goal in self._goals)

    @property
    def subtask_index(self) -> int:
        """Index of the first subtask that is not done; the number of subtasks if all are."""
        return self._done

    @property
    def subtask(self) -> Subtask | None:
        return self.task.subtasks[self._done] if self._done < len(self.task.subtasks) else None

    @property
    def current_subtask(self) -> str | None:
        return self.subtask.text if self.subtask else None

    def holds(self, subtask: str) -> bool | None:
        """Whether the result of this subtask, in any case and spacing, holds now and the gripper is free of it; None if
        the words are no subtask of the present scene."""
        step = subtasks_of(self.task).get(folded(subtask))
        return None if step is None else subtask_holds(self.world, step)

    def expert(self) -> Expert:
        return Expert(self)

    def arm(self, image_size: int = PANDA.image_size) -> TabletopArm:
        """Its arm for teleoperation, with pictures of `image_size` [px]."""
        return TabletopArm(self, image_size)

    def oracle_step(self) -> PlanStep | None:
        """The true next subtask and the true image at its completion, by an expert on a copy of the state."""
        if self.subtask is None:
            return None
        text, index, achieved = self.subtask.text, self._done, self._achieved
        state, expert = self.world.save(), self.expert()
        for _ in range(2 * STEPS_PER_SUBTASK):
            if self._done > index:
                break
            self.world.step(expert.action())
            self._latch()
        image = self.render(PANDA.planner_camera)
        self.world.restore(state)
        self._done, self._achieved = index, achieved
        return PlanStep(subtask=text, subgoal=image)

    def failure_watch(self) -> TabletopFailures:
        return TabletopFailures(self)

    @property
    def due_object(self) -> str | None:
        return self.subtask.object if self.subtask else None

    @property
    def compositions(self) -> tuple[str, ...]:
        """Compositions of the task that its split keeps from demonstrations, for instance "red can, drawer"."""
        return tuple(self.grammar.compositions(self.task))

    @property
    def due_composition(self) -> str | None:
        """That of the due subtask; None if it is not kept."""
        return self.grammar.kept_words(self.subtask) if self.subtask else None

    @property
    def gripper_opening(self) -> float:
        return self.world.gripper_opening

    def observe(self) -> Observation:
        return Observation(images={c: self.render(c) for c in self.cameras}, state=self.world.state)

    def _blind(self) -> Observation:
        return Observation(images={}, state=self.world.state)

    def render(self, camera: str = PANDA.planner_camera, size: int = PANDA.image_size) -> Image:
        return self.world.render(camera, size)

    def object_pixels(self, camera: str = PANDA.planner_camera) -> dict[str, tuple[float, float] | None]:
        """Name -> (u, v) [px] centroid of the object's visible pixels at 128 px; None if hidden."""
        return self.world.object_pixels(camera)

    def gripper_pixel(self, camera: str = PANDA.planner_camera) -> tuple[float, float]:
        """(u, v) [px] of the point between the fingertips at 128 px, also if it is hidden or outside."""
        return self.world.pinch_pixel(camera)

    def close(self) -> None:
        self.world.close()
