"""Every preset composes; wrong keys, values and names answer with what is valid."""

import dataclasses
import typing
from collections.abc import Iterator
from enum import Enum, StrEnum
from operator import attrgetter
from pathlib import Path

import pytest
import yaml

from emu_robot import config as config_module
from emu_robot.config import SCHEMAS, config_folder, leaf_types, load_config, load_schema, preset_names
from emu_robot.errors import ConfigError, EmuRobotError, UnknownNameError
from emu_robot.shared.settings import check_effects, field_docs

PRESETS = [(verb, name) for verb in SCHEMAS for name in preset_names(verb)]


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loop:
    steps: int = 10
    lr: float = 1e-3
    colour: Colour = Colour.RED

    def without_effect(self) -> dict[str, str]:
        return {} if self.steps else {"lr": "steps=0"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Toy:
    name: str = "mini"
    n: int = 10
    tasks: tuple[str, ...] = ("a", "b")
    goal: str | None = None
    out: Path = Path("outputs")
    loop: Loop = dataclasses.field(default_factory=Loop)

    def without_effect(self) -> dict[str, str]:
        return {"loop": f"goal={self.goal} needs none"} if self.goal == "none" else {}


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A verb "toy" with one preset, in a configs folder of its own."""
    presets = tmp_path / "experiment" / "toy"
    presets.mkdir(parents=True)
    (presets / "small.yaml").write_text("n: 7\nloop:\n  steps: 5\n")
    monkeypatch.setitem(SCHEMAS, "toy", f"{__name__}:Toy")
    monkeypatch.setattr(config_module, "config_folder", lambda: tmp_path)
    return presets


@pytest.mark.parametrize("verb", SCHEMAS)
def test_verb_composes(verb: str) -> None:
    assert dataclasses.is_dataclass(load_config(verb))


@pytest.mark.parametrize(("verb", "preset"), PRESETS)
def test_preset_composes(verb: str, preset: str) -> None:
    assert isinstance(load_config(verb, [f"experiment={preset}"]), type(load_config(verb)))


def test_every_file_belongs_to_a_verb() -> None:
    folder = config_folder()
    assert {path.stem for path in folder.glob("*.yaml")} <= set(SCHEMAS)
    assert {path.name for path in (folder / "experiment").iterdir()} <= set(SCHEMAS)


def test_entries_of_a_table_are_added() -> None:
    settings = ["experiment=mini_corrected", "sampling.verb_weights.sort=4.0"]
    preset = load_config("train-head", settings[:1]).sampling.verb_weights
    assert load_config("train-head", settings).sampling.verb_weights == {**preset, "sort": 4.0}
    assert load_config("train-head", ["sampling.verb_weights={push: 2}"]).sampling.verb_weights == {"push": 2.0}
    with pytest.raises(ConfigError, match=r"verb_weights\.push.*'hard'"):
        load_config("train-head", ["sampling.verb_weights.push=hard"])


def test_a_key_may_be_named_like_a_folder_of_configs() -> None:
    assert (config_folder() / "robot").is_dir()
    assert load_config("watch", ["robot=franka_fr3", "seed=3"]).robot == "franka_fr3"
    assert load_config("from-mcap", ["robot=my_arm.yaml"]).robot == "my_arm.yaml"
    assert load_config("watch", ["robot="]).robot == ""


def test_choices_are_typed_by_their_values() -> None:
    found = {
        verb: {
            key: list(hint)
            for key, hint in leaf_types(load_schema(verb))
            if isinstance(hint, type) and issubclass(hint, Enum)
        }
        for verb in SCHEMAS
    }
    del found["finetune"]["track"]  # it is that of every stage, and their own would be without effect
    names = {key.rpartition(".")[2] for keys in found.values() for key in keys}
    assert {"decoder", "dtype", "fit", "goal", "method", "path", "quantize", "task", "track"} <= names
    for verb, keys in found.items():
        for key, choice in ((key, choices[-1]) for key, choices in keys.items()):
            needed = ["weights=BAAI/Emu3.5"] if key.startswith("official.") else []
            if (verb, key) == ("train-world_model", "model.placement.quantize"):
                continue  # only none can be trained
            if (verb, key) == ("plan", "fit"):
                needed = ["image=photo.png", "instruction=look"]
            assert attrgetter(key)(load_config(verb, [*needed, f"{key}={choice.value}"])) is choice


@pytest.mark.usefixtures("toy")
def test_values_are_taken_as_typed() -> None:
    typed = "put it, then go: (now) 'q' \\"
    config = load_config("toy", ["n=3", "tasks=x,y z", f"goal={typed}", "out=a/b", "loop.lr=1e-4"])
    assert config == Toy(n=3, tasks=("x", "y z"), goal=typed, out=Path("a/b"), loop=Loop(lr=1e-4))


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["loop.steps=0", "loop.lr=0.001"], "loop.lr has no effect: steps=0"),
        (["goal=none", "loop.colour=blue"], "loop.colour has no effect: goal=none needs none"),
    ],
)
def test_a_key_without_effect_is_refused_even_with_its_default(words: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config("toy", words)
    assert str(caught.value) == said
    load_config("toy", words[:1])


@pytest.mark.parametrize(("verb", "preset"), PRESETS)
def test_no_key_of_a_preset_is_without_effect(verb: str, preset: str) -> None:
    lines = yaml.safe_load((config_folder() / "experiment" / verb / f"{preset}.yaml").read_text())
    check_effects(load_config(verb, [f"experiment={preset}"]), list(dotted(lines)))


def dotted(values: dict, prefix: str = "") -> Iterator[str]:
    """Keys of nested tables."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from dotted(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


@pytest.mark.parametrize("verb", SCHEMAS)
def test_every_field_is_described_and_none_can_be_changed(verb: str) -> None:
    for schema in set(schemas(load_schema(verb))):
        assert schema.__doc__ and not schema.__doc__.startswith(schema.__name__), f"{schema} is not described"
        assert [name for name, words in field_docs(schema).items() if not words] == [], schema
        config = schema()
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(config, dataclasses.fields(schema)[0].name, None)


def schemas(schema: type) -> Iterator[type]:
    """A dataclass and all those in it."""
    yield schema
    for hint in typing.get_type_hints(schema).values():
        if dataclasses.is_dataclass(hint):
            yield from schemas(typing.cast(type, hint))


@pytest.mark.usefixtures("toy")
def test_override_beats_preset_beats_default() -> None:
    config = load_config("toy", ["loop.steps=6", "experiment=small"])
    assert (config.n, config.loop.steps, config.loop.lr) == (7, 6, 1e-3)


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("nn=3", "unknown key 'nn' for toy; valid: goal, loop.colour, loop.lr, loop.steps, n, name, out, tasks"),
        ("loop.stesp=3", "tasks; did you mean 'loop.steps'?"),
        ("loop.colour=RED", "unknown loop.colour 'RED'; known: red, blue"),
        ("loop.colour=rde", "known: red, blue; did you mean 'red'?"),
        ("loop=3", "unknown key 'loop'"),
        ("n=many", "toy: n: Value 'many'"),
        ("loop.lr=fast", "toy: loop.lr: Value 'fast'"),
        ("n=1,2", "toy: "),
        ("n=[1", "toy: "),
        ("n", "not of the form key=value"),
        ("+n=3", "not of the form key=value"),
        ("~n=3", "not of the form key=value"),
        ("name=${oc.env:HOME}", "interpolation is not allowed"),
        ("n=${oc.env:HOME}", "interpolation is not allowed"),
        ("hydra.run.dir=x", "unknown key"),
    ],
)
def test_wrong_override_is_one_clear_line(override: str, said: str) -> None:
    with pytest.raises(EmuRobotError) as caught:
        load_config("toy", [override])
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("toy")
def test_unknown_preset_and_verb_list_what_exists() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown experiment for toy 'big'; known: small"):
        load_config("toy", ["experiment=big"])
    with pytest.raises(UnknownNameError, match=r"unknown verb 'evla'; known: .*eval"):
        load_config("evla")


@pytest.mark.parametrize("line", ["nn: 3", "n: many", "_target_: os.system", "name: ${oc.env:HOME}"])
def test_wrong_preset_file_is_refused(toy: Path, line: str) -> None:
    (toy / "bad.yaml").write_text(f"{line}\n")
    with pytest.raises(ConfigError):
        load_config("toy", ["experiment=bad"])
