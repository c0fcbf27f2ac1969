"""Numbers of JSON that no float can hold are refused where they are read."""

import json
from pathlib import Path

import pytest

from emu_robot.data import lerobot_tables
from emu_robot.errors import DataError, WeightsError
from emu_robot.models import files
from emu_robot.shared.typed import whole_number


def test_whole_numbers_fit_floats():
    assert whole_number(str(-(2**70))) == -(2**70)
    for text in ("1" + "0" * 400, "-1" + "0" * 309):
        with pytest.raises(ValueError, match="is too large"):
            whole_number(text)


def test_readers_name_the_file(tmp_path: Path):
    path = tmp_path / "numbers.json"
    path.write_text(json.dumps({"mean": [1, 10**400]}))
    with pytest.raises(DataError, match=r"numbers.json: not readable JSON \(1000.* is too large\)"):
        lerobot_tables.read_json(path)
    with pytest.raises(DataError, match=r"numbers.json: not readable JSON lines \(1000.* is too large\)"):
        lerobot_tables.read_json_lines(path)
    with pytest.raises(WeightsError, match=r"numbers.json is not JSON: 1000.* is too large"):
        files.read_json(path)


def test_deep_values_are_a_line(tmp_path: Path):
    path = tmp_path / "deep.json"
    path.write_text("[" * 200_000)
    for read, error in ((lerobot_tables.read_json, DataError), (files.read_json, WeightsError)):
        with pytest.raises(error, match=r"deep.json"):
            read(path)
