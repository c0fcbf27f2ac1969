"""Environments are found by entry point; what is wrong with a plug-in is told with the package that brings it."""

import sys

import fakes
import pytest

from emu_robot import environments
from emu_robot.core import Observation
from emu_robot.environments.capabilities import HasOracle, LocatesGripper, require
from emu_robot.environments.contract import TaskSpec, check_observation, open_task, select_tasks
from emu_robot.errors import InvalidValueError, SystemSetupError, UnknownNameError

TASKS = (
    TaskSpec(name="reach", group="easy", splits=("seen", "new")),
    TaskSpec(name="push", group="easy"),
    TaskSpec(name="stack", group="hard", splits=("seen", "new")),
)


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Install a package with one entry point."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(name: str, value: str, package: str = "brittle", code: str = "") -> None:
        info = tmp_path / f"{package}-2.1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 2.1\n")
        (info / "entry_points.txt").write_text(f"[emu_robot.environments]\n{name} = {value}\n")
        (tmp_path / f"{package}.py").write_text(code)

    return install


def test_unknown_names_say_which_exist():
    with pytest.raises(UnknownNameError, match="unknown environment 'moon'; known: fake, .*tabletop"):
        environments.suite("moon")
    assert environments.suite("fake") is environments.suite("fake")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("", r"environment 'x' of brittle 2.1 cannot be loaded \(AttributeError: .*Suite"),
        ("import nowhere", r"brittle 2.1 cannot be loaded \(ModuleNotFoundError: No module named 'nowhere'\)"),
        ("class Suite:\n def __init__(self): raise KeyError('assets')", r"brittle 2.1 .*KeyError: 'assets'"),
        ("class Suite: tasks = ()", "environment 'x' of brittle 2.1 is no Suite: it lacks default_tasks, open, spec"),
    ],
)
def test_a_broken_plugin_is_named_with_its_package(plugin, monkeypatch, code, said):
    monkeypatch.delitem(sys.modules, "brittle", raising=False)
    plugin("x", "brittle:Suite", code=code)
    with pytest.raises(SystemSetupError, match=said):
        environments.suite("x")


def test_two_packages_with_one_name_are_both_named(plugin):
    plugin("x", "a:Suite", package="first")
    plugin("x", "b:Suite", package="second")
    with pytest.raises(SystemSetupError, match=r"registered twice: by .* 2.1 \(.*\) and .* 2.1 \(.*\)"):
        environments.suite("x")


def test_a_world_is_made_by_name():
    world = environments.make("fake", "two")
    assert world.task_name == "two" and world.instruction
    world.close()
    default = environments.make("fake")
    assert default.task_name == "both"
    default.close()
    with pytest.raises(InvalidValueError, match="'fake' opens one task at a time; name one of: one, two"):
        environments.make("fake", "few")
    with pytest.raises(UnknownNameError, match="unknown task 'pour'; known: one, two, both, few, many, all"):
        environments.make("fake", "pour")


def test_the_tabletop_mixes_tasks_and_has_every_capability():
    world = environments.make("tabletop", ["open_drawer", "push"])
    seen = set()
    for seed in range(8):
        world.reset(seed)
        seen.add(world.task_name)
    assert seen == {"open_drawer", "push"}
    require(world, LocatesGripper, "this test")
    world.close()


def test_tasks_are_selected_by_name_group_and_split():
    def chosen(names: list[str], split: str = "seen") -> list[str]:
        return [task.name for task in select_tasks(TASKS, names, split)]

    assert chosen(["all"]) == ["reach", "push", "stack"]
    assert chosen(["hard", "easy", "reach"]) == ["stack", "reach", "push"]
    assert chosen(["all"], "new") == ["reach", "stack"]
    with pytest.raises(InvalidValueError, match="task 'push' has no split 'new'; it has seen"):
        chosen(["push"], "new")
    with pytest.raises(UnknownNameError, match="unknown split 'old'; known: seen, new"):
        chosen(["all"], "old")
    with pytest.raises(InvalidValueError, match="no tasks given; known: reach, push, stack, easy, hard, all"):
        chosen([])


def test_what_a_world_lacks_is_told():
    class Half:
        task_name, instruction, max_steps = "one", "go", 3

    class Suite(fakes.FakeSuite):
        def open(self, task, split):
            return Half()

    with pytest.raises(SystemSetupError, match="Half is no Environment: it lacks close, reset, spec, step"):
        open_task(Suite(), "one", "seen")  # pyright: ignore[reportArgumentType]  # what a plug-in may bring
    world = fakes.FakeEnvironment("one")
    assert require(world, HasOracle, "goal=oracle") is world
    with pytest.raises(
        InvalidValueError, match="reading grippers needs the place of the gripper, .*; it offers render"
    ):
        require(world, LocatesGripper, "reading grippers")


def test_a_world_that_cannot_be_opened_is_named():
    class Suite(fakes.FakeSuite):
        def open(self, task, split):
            raise RuntimeError("no GPU here")

    with pytest.raises(SystemSetupError, match=r"task 'one' of .*Suite cannot be opened \(RuntimeError: no GPU here\)"):
        open_task(Suite(), "one", "seen")


def test_a_world_that_contradicts_its_spec_is_told():
    world = fakes.FakeEnvironment("one")
    seen = world.reset(1)
    check_observation("environment fake", seen, world.spec)
    other = Observation(images={"cam": seen.images[world.spec.planner_camera]}, state=seen.state)
    with pytest.raises(SystemSetupError, match=r"fake: reset shows cameras cam \(\d+ x \d+\); its spec says"):
        check_observation("environment fake", other, world.spec)
    short = Observation(images=seen.images, state=seen.state[:-1])
    with pytest.raises(SystemSetupError, match="the state has shape"):
        check_observation("environment fake", short, world.spec)
