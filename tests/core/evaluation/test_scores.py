"""What follows from scored answers: counts, intervals, pass@k and votes."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tabom_cli.core.evaluation.scores import SampleScore, summarise
from tabom_cli.core.evaluation.statistics import wilson_interval


def samples(problems: Sequence[Sequence[float]]) -> list[SampleScore]:
    return [
        SampleScore(problem, index, f"{problem}-{index}", score, "", "", "")
        for problem, scores in enumerate(problems)
        for index, score in enumerate(scores)
    ]


@pytest.mark.parametrize("right", [0.0, 1.0])
def test_equal_answers_keep_the_width_of_their_interval(right: float) -> None:
    summary = summarise(samples([[right] * 4] * 4), num_samples=4, votes=False)
    assert summary.interval == wilson_interval(4 * int(right), 4)
    assert summary.interval_kind == "wilson"
    assert summary.pass_at[1].interval == summary.interval


def test_score_and_pass_at_1_share_one_interval() -> None:
    scored = samples([[1, 0, 0], [1, 1, 0], [0, 0, 0], [1, 1, 1]])
    summary = summarise(scored, num_samples=3, votes=False)
    first = summary.pass_at[1]
    assert summary.value == pytest.approx(first.value) == pytest.approx(0.5)
    assert summary.interval.low == pytest.approx(first.interval.low)
    assert summary.interval.high == pytest.approx(first.interval.high)
    assert summary.interval_kind == first.kind == "bootstrap over problems"
    assert summary.interval.low < 0.5 < summary.interval.high


def test_one_answer_per_problem_has_wilsons_interval() -> None:
    summary = summarise(samples([[1], [0], [1]]), num_samples=1, votes=False)
    assert (summary.num_correct, summary.num_total, summary.pass_at) == (2, 3, {})
    assert (summary.interval, summary.interval_kind) == (wilson_interval(2, 3), "wilson")


def test_partial_scores_have_a_bootstrap_interval() -> None:
    summary = summarise(samples([[0.25], [0.5]]), num_samples=1, votes=False)
    assert (summary.num_correct, summary.interval_kind) == (None, "bootstrap over problems")
