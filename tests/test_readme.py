"""README and the other pages: the tree names every room, examples run, commands and their keys exist, links lead on."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from emu_robot.cli.bringup import pairs
from emu_robot.cli.doctor import KEYS
from emu_robot.cli.main import VERBS
from emu_robot.cli.teleop_devices import split_settings
from emu_robot.config import leaf_types, load_config, load_schema
from emu_robot.deploy.graph import read_graph
from emu_robot.errors import EmuRobotError
from emu_robot.evaluation.benchmarks import BENCHMARKS

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "datasets/README.md"])
README = (ROOT / "README.md").read_text()
TREE = README.partition("## What is where")[2].split("```")[1]
PACKAGE = TREE.partition("emu_robot/\n")[2].partition("\nros_ws/")[0]
FENCED = re.compile(r"^```\w*\n(.*?)^```", re.M | re.S)
PLACEHOLDER = re.compile(r"…|\bNAME$|env=toy$|WEIGHTS$|\.\.\.|<\w+>|\||=$")
"""What a page writes where a reader puts a value of their own."""


def name_of(page: Path) -> str:
    """Of a page, from the root of the checkout."""
    return page.relative_to(ROOT).as_posix()


def test_every_room_is_in_the_tree() -> None:
    named = set(re.findall(r"^  ([\w/]+)/ ", PACKAGE, re.M))
    rooms = {path.relative_to(ROOT / "emu_robot").parts[0] for path in (ROOT / "emu_robot").glob("*/**/*.py")}
    assert named - {"weights/mini"} == rooms and (ROOT / "emu_robot/weights/mini").is_dir()


def test_rooms_within_rooms_are_there() -> None:
    within = re.findall(r"^  (\w+)/ .*\n    (\w+)/ ", PACKAGE, re.M)
    assert within and all((ROOT / "emu_robot" / outer / inner).is_dir() for outer, inner in within)


def test_every_module_at_the_root_is_in_the_tree() -> None:
    assert set(re.findall(r"(\w+)\.py", PACKAGE)) == {path.stem for path in (ROOT / "emu_robot").glob("*.py")}


def test_folders_at_the_top_are_there() -> None:
    named = re.findall(r"^([\w/]+)/ ", TREE, re.M)
    assert len(named) > 5 and all((ROOT / name).is_dir() for name in named)


def test_python_of_the_readme_runs_as_printed() -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert blocks
    answers = [
        subprocess.run([sys.executable, "-c", block], capture_output=True, text=True, check=False, cwd=ROOT)
        for block in blocks
    ]
    assert all(answer.returncode == 0 for answer in answers), "".join(answer.stderr[-2000:] for answer in answers)
    assert "actions (8, 8) subgoal (128, 128, 3)" in answers[0].stdout


def commands(page: str) -> Iterator[str]:
    """Every emu-robot command of a page, in blocks and in lines, without what is said beside it."""
    joined = [block.replace("\\\n", " ") for block in FENCED.findall(page)]
    lines = [re.split(r" {4,}| +#", line)[0] for block in joined for line in block.splitlines()]
    told = [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", FENCED.sub("", page))]
    yield from (text.strip() for text in (*lines, *told) if re.match(r"emu-robot \w", text))


COMMANDS = {page: sorted(set(commands(page.read_text()))) for page in PAGES}


def test_pages_have_commands() -> None:
    assert sum(map(len, COMMANDS.values())) > 100
    assert all(
        COMMANDS[ROOT / name] for name in ("README.md", "docs/RESULTS.md", "docs/DEPLOY.md", "datasets/README.md")
    )


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_are_of_verbs_and_keys_that_exist(page: Path) -> None:
    wrong = {}
    for text in COMMANDS[page]:
        try:
            check_command(*[word for word in shlex.split(text)[1:] if word not in ("--help", "key=value")])
        except (EmuRobotError, AssertionError, IndexError) as error:
            wrong[text] = str(error)
    assert not wrong


def check_command(verb: str, *words: str) -> None:
    """Read the settings of a command as the verb would; where a value is left open only its key is looked up."""
    assert verb in VERBS or verb == "VERB", f"no verb {verb}"
    given = [word for word in words if not PLACEHOLDER.search(word)]
    match verb:
        case "VERB" | "train-mini":
            assert not given
        case "doctor":
            assert words[:1] in ((), ("ros",)) and set(pairs(words[1:])) <= set(KEYS)
        case "bringup":
            read_graph_of(pairs(given))
        case _ if words:  # a verb that is only named has no settings
            schema, settings = schema_of(verb, list(words))
            check_keys(schema, settings)
            load_config(schema, [word for word in settings if not PLACEHOLDER.search(word)])


def schema_of(verb: str, words: list[str]) -> tuple[str, list[str]]:
    """The name of a verb's settings, and the words that are settings."""
    if verb == "data":
        return words[0], words[1:]
    if verb == "bench":
        assert words[0] in ("list", "install", "run") and all(name in (*BENCHMARKS, "NAME") for name in words[1:2])
        return "eval", words[2:]
    if verb == "teleop":
        return verb, split_settings(words)[0]
    if verb in ("measure", "sim"):
        return f"{verb}-{words[0]}", words[1:]
    if verb == "train":
        (stage,) = [word for word in words if word.startswith("stage=")]
        return stage.replace("stage=", "train-"), [word for word in words if word != stage]
    return verb, words


def check_keys(schema: str, words: list[str]) -> None:
    """Every key must be of these settings, or of a table among them."""
    known = {key for key, _ in leaf_types(load_schema(schema))}
    for word in words:
        key = word.partition("=")[0]
        assert word in ("…", "...") or key in known or key.rpartition(".")[0] in known or key == "experiment", key


def read_graph_of(settings: dict[str, str]) -> None:
    """As `emu-robot bringup` does; robot files that a page makes up are taken for one that ships."""
    settings = {key: "ur5e" if key == "robot" and value.endswith(".yaml") else value for key, value in settings.items()}
    name, nodes, namespace = (settings.pop(key, "") for key in ("graph", "nodes", "namespace"))
    assert read_graph(name or "sim", nodes=nodes, namespace=namespace, settings=settings).nodes


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_within_the_checkout_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCED.sub("", page.read_text())):
        if target.startswith(("http://", "https://")):
            continue
        name, _, heading = target.partition("#")
        aim = (page.parent / name).resolve() if name else page
        assert aim.exists() and aim.is_relative_to(ROOT), f"{page.name} links to {target}"
        assert not heading or heading in headings(aim), f"{target}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_that_a_page_names_are_there(page: Path) -> None:
    text = page.read_text()
    named = re.findall(
        r"(?<![\w/.-])((?:tests|benchmarks|emu_robot|configs|sim|ros_ws|docs|datasets)/[\w/.-]+\.\w+)", text
    )
    assert [name for name in named if not (ROOT / name).exists() and "/install/" not in name] == []  # colcon makes that


def headings(page: Path) -> set[str]:
    """A page's headings as links name them."""
    titles = re.findall(r"^#+ (.+)$", FENCED.sub("", page.read_text()), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_readme_leads_to_every_page_and_every_command_is_told() -> None:
    for page in PAGES:
        assert page.name == "README.md" or f"({name_of(page)})" in README, page
    told = {text.split()[1] for text in COMMANDS[ROOT / "docs/commands.md"]}
    assert told - {"VERB"} == set(VERBS)


def test_advice_installs_from_the_checkout() -> None:
    """No registry has a package of ours, so its name may be another's there."""
    for page in PAGES:
        for named in re.findall(r"(?:pip|uv|pipx|uvx) (?:install |add )?['\"]?(emu[-_]robot\S*)", page.read_text()):
            raise AssertionError(f"{page.name} installs {named}")
