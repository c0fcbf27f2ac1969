"""What is no file, no text, no YAML, or says something twice, is refused in one line."""

import os
import time
from pathlib import Path

import pytest
from robots import HAND_APART, SIX_JOINTS

from emu_robot.errors import ConfigError, EmuRobotError, UnknownNameError
from emu_robot.robots.deployment import parse_deployment, read_deployment
from emu_robot.robots.file import MOST_BYTES, parse_yaml

BOMB = "a: &a [x, x]\n" + "".join(
    f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefghijk", "bcdefghijkl", strict=True)
)
TEXTS = {
    "": "holds null, must hold a mapping",
    "- name\n- joints\n": "holds ['name', 'joints'], must hold a mapping",
    "robot": "holds 'robot', must hold a mapping",
    "a: [": "not YAML: expected the node content, but found '<stream end>', line 1",
    "a: 1\n b: 2": "not YAML: mapping values are not allowed here, line 2",
    "a: \t1\n\t- 2": "not YAML: found character '\\t' that cannot start any token",
    "a: 1\x00": "not YAML: unacceptable character #x0000",
    "a: 1\n--- \nb: 2": "not YAML: but found another document, line 2",
    "a: !!python/object/apply:os.system [ls]": "not YAML: could not determine a constructor for the tag",
    "a: 2001-99-99": "not YAML: a value makes no sense (month must be in 1..12)",
    "a: !!int abc": "not YAML: a value makes no sense (invalid literal for int() with base 10: 'abc')",
    "a: !!timestamp x": "not YAML: a value makes no sense ('NoneType' object has no attribute 'groupdict')",
    "a: " + "9" * 5000: "not YAML: a value makes no sense (Exceeds the limit (4300 digits)",
    "a: " + "[" * 3000: "not YAML: a value makes no sense (maximum recursion depth exceeded",
    "{[1, 2]: 3}": "not YAML: found unhashable key, line 1",
    "name: a\njoints: {}\nname: b": "not YAML: the key 'name' twice, line 3",
    "joints: {lower: [1], upper: [2], lower: [3]}": "not YAML: the key 'lower' twice, line 1",
    "joints: &j {}\ngripper: *j": "not YAML: the alias *j is not taken, write the values out, line 2",
    "a: &a {b: 1}\nc: {<<: *a}": "not YAML: the alias *a is not taken",
    BOMB: "not YAML: the alias *a is not taken, write the values out, line 2",
    "a: 1 # " + "x" * MOST_BYTES: "has more than 100000 characters",
}


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_what_is_no_mapping_in_yaml_is_named(text: str):
    start = time.process_time()
    with pytest.raises(ConfigError) as found:
        parse_deployment(text, "mine.yaml")
    assert str(found.value).startswith(f"mine.yaml: {TEXTS[text]}")
    assert len(str(found.value).splitlines()) == 1 and len(str(found.value)) < 400
    assert time.process_time() - start < 5.0


@pytest.mark.parametrize("text", [None, 3, b"name: a", ["name"], {}])
def test_what_is_no_text_is_named(text: object):
    with pytest.raises(ConfigError, match="mine.yaml: is .*, must be text in YAML"):
        parse_deployment(text, "mine.yaml")  # pyright: ignore[reportArgumentType]


def test_a_key_may_be_there_twice_in_different_places():
    assert parse_yaml("a: {b: 1}\nc: {b: 2}") == {"a": {"b": 1}, "c": {"b": 2}}


def test_what_is_no_readable_file_is_named(tmp_path: Path):
    (tmp_path / "folder.yaml").mkdir()
    os.mkfifo(tmp_path / "fifo.yaml")
    (tmp_path / "latin.yaml").write_bytes(SIX_JOINTS.replace("chosen", "gewählt").encode("latin-1"))
    (tmp_path / "huge.yaml").write_bytes(b"#" * (MOST_BYTES + 1))
    (tmp_path / "binary.yaml").write_bytes(bytes(range(256)))
    for name, said in {
        "folder": "is a folder, must be a YAML file",
        "fifo": "is not a file, must be a YAML file",
        "latin": "is not UTF-8: byte 269 is 0xe4",
        "huge": "has more than 100000 bytes, a robot's file has a few thousand",
        "binary": "is not UTF-8: byte 128 is 0x80",
    }.items():
        with pytest.raises(ConfigError) as found:
            read_deployment(tmp_path / f"{name}.yaml")
        assert str(found.value) == f"{tmp_path / name}.yaml {said}"
    with pytest.raises(ConfigError, match="/dev/zero is not a file"):
        read_deployment("/dev/zero")


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(self: Path, mode: str) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "mine.yaml").write_text(SIX_JOINTS)
    monkeypatch.setattr(Path, "open", refuse)  # an administrator may read everything
    with pytest.raises(ConfigError, match="mine.yaml cannot be read: Permission denied"):
        read_deployment(tmp_path / "mine.yaml")


@pytest.mark.parametrize("name", ["kuka", "", "  ", "x" * 5000, "a\0b", "no/such/robot.yaml", "two\nlines", "\ud800"])
def test_a_robot_that_there_is_not_is_named_in_one_line(name: str):
    with pytest.raises(UnknownNameError, match="unknown robot '.*known: franka_fr3, ") as found:
        read_deployment(name)
    assert len(str(found.value).splitlines()) == 1 and len(str(found.value)) < 500


def test_a_file_with_a_line_end_in_its_name_is_named_in_one_line(tmp_path: Path):
    path = tmp_path / "a\nb.yaml"
    path.write_text(HAND_APART + "wheels: 4\n")
    with pytest.raises(EmuRobotError, match=r"a\\nb.yaml: unknown key 'wheels'"):
        read_deployment(path)
