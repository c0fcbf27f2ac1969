import pytest

from emu_robot.errors import InvalidValueError
from emu_robot.evaluation.statistics import Proportion, barnard, compare


def test_wilson_interval_as_published():
    # Newcombe 1998, table I: 81/263 and 15/148, Wilson score without continuity correction.
    for successes, n, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)):
        assert Proportion(successes, n).interval == pytest.approx((low, high), abs=1e-4)


def test_formatting():
    assert str(Proportion(87, 100)) == "87.0% [79.0, 92.2] (87/100)"
    assert str(Proportion(0, 0)) == "no trials"


def test_impossible_proportions_are_refused():
    with pytest.raises(InvalidValueError, match="5 successes of 4"):
        Proportion(5, 4)


def test_barnard_separates_only_what_is_separated():
    assert "not separated" in compare("a", Proportion(9, 20), "b", Proportion(8, 20))
    line = compare("oracle", Proportion(18, 20), "none", Proportion(4, 20))
    assert "+70.0 points" in line
    assert line.endswith(", separated")
    assert barnard(Proportion(20, 20), Proportion(20, 20)) == 1.0
    with pytest.raises(InvalidValueError):
        barnard(Proportion(0, 0), Proportion(1, 2))
