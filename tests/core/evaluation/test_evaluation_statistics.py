import itertools
import math

import pytest

from tabom_cli.core.errors import DataError
from tabom_cli.core.evaluation import statistics


def test_wilson_interval_equals_published_values() -> None:
    # Newcombe (1998), table I, method 3: 81/263, 15/148, 0/20, 1/29.
    for correct, total, low, high in [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ]:
        interval = statistics.wilson_interval(correct, total)
        assert interval.low == pytest.approx(low, abs=5e-5)
        assert interval.high == pytest.approx(high, abs=5e-5)


def test_wilson_interval_solves_its_defining_equation() -> None:
    interval = statistics.wilson_interval(37, 164)
    for bound in (interval.low, interval.high):
        distance = abs(37 / 164 - bound) / math.sqrt(bound * (1 - bound) / 164)
        assert distance == pytest.approx(1.959963984540054)


def test_wilson_interval_touches_the_ends_and_is_open_without_data() -> None:
    assert statistics.wilson_interval(0, 50).low == 0.0
    assert statistics.wilson_interval(50, 50).high == 1.0
    assert statistics.wilson_interval(0, 0) == statistics.Interval(0.0, 1.0)


def test_wilson_interval_refuses_counts_that_contradict_each_other() -> None:
    with pytest.raises(DataError, match="5 correct of 4"):
        statistics.wilson_interval(5, 4)


def test_pass_at_k_equals_counting_all_subsets() -> None:
    for num in range(1, 7):
        for correct in range(num + 1):
            for k in range(1, num + 1):
                subsets = list(itertools.combinations(range(num), k))
                hits = sum(any(index < correct for index in subset) for subset in subsets)
                assert statistics.pass_at_k(num, correct, k) == pytest.approx(hits / len(subsets))


def test_pass_at_k_refuses_more_draws_than_samples() -> None:
    with pytest.raises(DataError, match="pass@5"):
        statistics.pass_at_k(4, 2, 5)


def test_majority_vote_takes_the_earliest_of_equals_and_skips_missing_answers() -> None:
    assert statistics.majority_vote(["3", None, "7", "7", "3"]) == "3"
    assert statistics.majority_vote([None, "7", "3", "7"]) == "7"
    assert statistics.majority_vote([None, None]) is None


def test_paired_comparison_counts_wins_and_losses_by_hand() -> None:
    # 6 wins, 1 loss, 3 ties of 10: difference 0.5; sign test 2 * (C(7,0) + C(7,1)) / 2^7 = 0.125.
    scores_a = [0, 0, 0, 0, 0, 0, 1, 1, 1, 0]
    scores_b = [1, 1, 1, 1, 1, 1, 0, 1, 1, 0]
    result = statistics.compare_paired(scores_a, scores_b)
    assert (result.wins, result.losses, result.num_problems) == (6, 1, 10)
    assert result.difference == pytest.approx(0.5)
    assert result.p_value == pytest.approx(0.125)


def test_bootstrap_interval_of_independent_trials_is_close_to_the_normal_one() -> None:
    values = [1.0] * 300 + [0.0] * 700
    interval = statistics.bootstrap_interval(values, num_resamples=2000)
    half = 1.96 * math.sqrt(0.3 * 0.7 / 1000)
    assert interval.low == pytest.approx(0.3 - half, abs=0.004)
    assert interval.high == pytest.approx(0.3 + half, abs=0.004)


def test_pairing_sees_a_difference_that_separate_intervals_hide() -> None:
    scores_a = [1.0] * 50 + [0.0] * 50
    scores_b = [1.0] * 56 + [0.0] * 44
    result = statistics.compare_paired(scores_a, scores_b, num_resamples=2000)
    assert result.is_real
    assert statistics.wilson_interval(50, 100).contains(0.56)


def test_equal_runs_show_no_difference() -> None:
    result = statistics.compare_paired([0, 1, 1], [0, 1, 1], num_resamples=100)
    assert result.difference == 0.0
    assert not result.is_real
    assert result.p_value == 1.0


def test_comparison_of_different_problem_sets_is_refused() -> None:
    with pytest.raises(DataError, match="same problems"):
        statistics.compare_paired([1.0], [1.0, 0.0])
