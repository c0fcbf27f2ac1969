"""Every preset composes; wrong keys, values and names answer with what is valid."""

import dataclasses
from enum import Enum
from operator import attrgetter
from pathlib import Path

import pytest

from emu_robot import config as config_module
from emu_robot.config import SCHEMAS, config_folder, leaf_types, load_config, load_schema, preset_names
from emu_robot.errors import ConfigError, UnknownNameError

PRESETS = [(verb, name) for verb in SCHEMAS for name in preset_names(verb)]


@dataclasses.dataclass(kw_only=True)
class Loop:
    steps: int = 10
    lr: float = 1e-3


@dataclasses.dataclass(kw_only=True)
class Toy:
    name: str = "mini"
    n: int = 10
    tasks: tuple[str, ...] = ("a", "b")
    goal: str | None = None
    out: Path = Path("outputs")
    loop: Loop = dataclasses.field(default_factory=Loop)


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A verb "toy" with one preset, in a configs folder of its own."""
    presets = tmp_path / "experiment" / "toy"
    presets.mkdir(parents=True)
    (tmp_path / "toy.yaml").write_text("defaults:\n  - toy_schema\n  - _self_\n")
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
    assert {path.stem for path in folder.glob("*.yaml")} == set(SCHEMAS)
    assert {path.name for path in (folder / "experiment").iterdir()} <= set(SCHEMAS)


def test_entries_of_a_table_are_added() -> None:
    settings = ["experiment=mini_corrected", "sampling.verb_weights.sort=4.0"]
    preset = load_config("train-head", settings[:1]).sampling.verb_weights
    assert load_config("train-head", settings).sampling.verb_weights == {**preset, "sort": 4.0}
    assert load_config("train-head", ["sampling.verb_weights={push: 2}"]).sampling.verb_weights == {"push": 2.0}
    with pytest.raises(ConfigError, match=r"verb_weights\.push.*'hard'"):
        load_config("train-head", ["sampling.verb_weights.push=hard"])


def test_choices_are_typed_by_their_values() -> None:
    found = {
        verb: {
            key: list(hint)
            for key, hint in leaf_types(load_schema(verb))
            if isinstance(hint, type) and issubclass(hint, Enum)
        }
        for verb in SCHEMAS
    }
    names = {key.rpartition(".")[2] for keys in found.values() for key in keys}
    assert names == {"fit", "method", "path", "quantize", "track"}
    for verb, keys in found.items():
        for i in range(max(map(len, keys.values()), default=0)):
            wanted = {key: choices[i % len(choices)] for key, choices in keys.items()}
            config = load_config(verb, [f"{key}={choice.value}" for key, choice in wanted.items()])
            assert {key: attrgetter(key)(config) for key in keys} == wanted


@pytest.mark.usefixtures("toy")
def test_values_are_taken_as_typed() -> None:
    typed = "put it, then go: (now) 'q' \\"
    config = load_config("toy", ["n=3", "tasks=x,y z", f"goal={typed}", "out=a/b", "loop.lr=1e-4"])
    assert config == Toy(n=3, tasks=("x", "y z"), goal=typed, out=Path("a/b"), loop=Loop(lr=1e-4))


@pytest.mark.usefixtures("toy")
def test_override_beats_preset_beats_default() -> None:
    config = load_config("toy", ["loop.steps=6", "experiment=small"])
    assert (config.n, config.loop.steps, config.loop.lr) == (7, 6, 1e-3)


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("nn=3", "unknown key 'nn' for toy; valid: goal, loop.lr, loop.steps, n, name, out, tasks"),
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
    with pytest.raises(ConfigError) as caught:
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
