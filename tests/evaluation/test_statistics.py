import numpy as np
import pytest

from emu_robot.errors import InvalidValueError
from emu_robot.evaluation.statistics import Mean, Proportion, barnard, compare


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


def test_a_mean_of_one_proportion_is_that_proportion():
    one = Proportion(7, 10)
    mean = Mean.of([one])
    assert mean.rate == pytest.approx(one.rate) and mean.interval == pytest.approx(one.interval)


def test_every_proportion_counts_the_same_and_the_interval_narrows():
    mean = Mean.of([Proportion(0, 10), Proportion(50, 100)])
    assert mean.rate == pytest.approx(0.25)
    assert str(Mean.of([Proportion(9, 10)] * 4)).startswith("90.0% [")
    low, high = Mean.of([Proportion(9, 10)] * 4).interval
    assert Proportion(9, 10).interval[0] < low < 0.9 < high < Proportion(9, 10).interval[1]
    assert 0 < Mean.of([Proportion(10, 10)] * 3).interval[0] < Mean.of([Proportion(10, 10)] * 3).interval[1] == 1.0


def test_groups_count_the_same_however_many_tasks_they_have():
    easy, hard = Mean.of([Proportion(10, 10)] * 3), Mean.of([Proportion(0, 10)])
    assert Mean.over([easy, hard]).rate == pytest.approx(0.5)
    assert sum(Mean.over([easy, hard]).weights) == pytest.approx(1)


def test_the_interval_of_a_mean_covers_the_truth_about_as_often_as_it_says():
    rng, rates = np.random.default_rng(0), np.array([0.1, 0.5, 0.9, 0.95])
    hits = 0
    for _ in range(300):
        low, high = Mean.of([Proportion(int(rng.binomial(10, p)), 10) for p in rates]).interval
        hits += low <= rates.mean() <= high
    assert 0.92 <= hits / 300 <= 1.0


def test_a_mean_without_trials_says_nothing():
    assert Mean.of([]).interval == Mean.of([Proportion(0, 0), Proportion(1, 1)]).interval == (0.0, 1.0)
