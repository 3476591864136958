"""Statistics of trajectory rows against numbers worked out by hand."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys

import pytest

from tabom_cli.core.data.records import Trajectory
from tabom_cli.core.data.stats import Summary, kendall_tau, trajectory_stats

END = 9


def made(row_id: str, **changes: object) -> Trajectory:
    values: dict[str, object] = {"id": row_id, "group_id": row_id, "prompt": "p", "response": "r"}
    return Trajectory(**values | changes)  # type: ignore[arg-type]


def tau_by_pairs(order: list[int]) -> float | None:
    later = earlier = tied = 0
    for left, right in itertools.combinations(range(len(order)), 2):
        later += order[right] > order[left]
        earlier += order[right] < order[left]
        tied += order[right] == order[left]
    pairs = later + earlier + tied
    if pairs == tied:
        return None
    return (later - earlier) / math.sqrt((pairs - tied) * pairs)


@pytest.mark.parametrize(
    ("order", "tau"),
    [
        ([0, 1, 2, 3], 1.0),
        ([3, 2, 1, 0], -1.0),
        ([1, 0, 2], 1 / 3),
        ([0, 0, 1], 2 / math.sqrt(6)),
        ([2, 2], None),
        ([4], None),
        ([], None),
    ],
)
def test_kendall_tau_of_small_orders(order: list[int], tau: float | None) -> None:
    assert kendall_tau(order) == pytest.approx(tau)
    assert tau_by_pairs(order) == pytest.approx(tau)


def test_kendall_tau_equals_the_pair_count_on_every_order_of_five() -> None:
    for order in itertools.product(range(3), repeat=5):
        assert kendall_tau(order) == pytest.approx(tau_by_pairs(list(order)))


def test_two_rows_by_hand() -> None:
    ended = made(
        "a",
        response_token_ids=[1, 2, 3, END, END, END],
        decoding_order=[2, 1, 2, 4, 0, 0],
        decoding_entropy=[0.5, 0.0, 0.5, 0.00005, 0.0, 0.0],
    )
    open_end = made(
        "b",
        response_token_ids=[1, 2, 3, 4],
        decoding_order=[0, 1, -1, 2],
        decoding_entropy=[1.0, 2.0, -1.0, 3.0],
    )
    stats = trajectory_stats([ended, open_end], end_ids={END})
    assert stats.content_tokens == Summary(count=2, mean=4.0, median=4.0, low=4.0, high=4.0)
    assert stats.share_unended == 1 / 2
    assert stats.share_tail == 2 / 10
    assert stats.end_step == Summary(count=1, mean=1.0, median=1.0, low=1.0, high=1.0)
    # Row a: 6 tokens in steps 0, 1, 2, 4; row b: 3 tokens in 3 steps.
    assert stats.tokens_per_step.high == 6 / 4
    assert stats.tokens_per_step.low == 1.0
    # Content: a decodes 4 of which two share step 2, b decodes 3.
    assert stats.share_tied == 2 / 7
    assert stats.share_non_ltr == 1 / 7
    # a is 2 1 2 4: later pairs (2,4), (1,2), (1,4), (2,4), earlier (2,1), tied (2,2).
    assert stats.kendall_tau.low == pytest.approx(3 / math.sqrt(5 * 6))
    assert stats.kendall_tau.high == 1.0
    assert stats.entropy_nats.low == pytest.approx(1.00005 / 4)
    assert stats.entropy_nats.high == 2.0
    assert stats.share_zero == 1 / 7
    assert stats.share_near_zero == 2 / 7
    assert stats.distinct_entropies.low == 3 / 4
    assert stats.distinct_entropies.high == 1.0


def test_acceptance_counts_judged_rows_and_prompts() -> None:
    verdicts = [
        ("a", "correct"),
        ("a", "wrong"),
        ("b", "truncated"),
        ("c", "unverified"),
        ("d", None),
    ]
    rows = [
        made(str(n), group_id=group, verdict=verdict, method="entropy" if n else None)
        for n, (group, verdict) in enumerate(verdicts)
    ]
    stats = trajectory_stats(rows, end_ids={END})
    assert (stats.num_rows, stats.num_groups) == (5, 4)
    assert stats.acceptance == 1 / 3
    assert stats.group_acceptance == 1 / 2
    assert stats.verdicts == {"correct": 1, "wrong": 1, "truncated": 1, "unverified": 1, "none": 1}
    assert stats.methods == {"none": 1, "entropy": 4}
    assert stats.kendall_tau == Summary()


def test_unjudged_rows_and_no_rows_have_no_acceptance() -> None:
    assert trajectory_stats([made("a", verdict="unverified")], end_ids=()).acceptance is None
    empty = trajectory_stats([], end_ids={END})
    assert (empty.num_rows, empty.acceptance, empty.group_acceptance) == (0, None, None)
    assert empty.warnings() == []


def test_cut_answers_alone_are_no_judgement_where_nothing_was_checked() -> None:
    def accepted(*verdicts: str) -> float | None:
        rows = [made(str(n), verdict=verdict) for n, verdict in enumerate(verdicts)]
        return trajectory_stats(rows, end_ids=()).acceptance

    assert accepted("truncated", "unverified") is None
    assert accepted("truncated", "truncated") == 0.0
    assert accepted("truncated", "unverified", "correct") == 0.5


def test_a_degenerate_file_is_called_so_and_a_real_order_is_not() -> None:
    tokens = [*range(1, 8), END]
    flat = made(
        "a",
        response_token_ids=tokens,
        decoding_order=list(range(8)),
        decoding_entropy=[0.0] * 6 + [0.3, 0.4],
    )
    texts = trajectory_stats([flat], end_ids={END}).warnings()
    assert len(texts) == 2
    assert "left to right (Kendall tau 1.00)" in texts[0]
    assert "75% of the recorded entropies are near zero" in texts[1]
    real = flat.model_copy(
        update={
            "decoding_order": [5, 0, 7, 2, 6, 1, 3, 4],
            "decoding_entropy": [0.1 * n for n in range(1, 9)],
        }
    )
    assert trajectory_stats([real], end_ids={END}).warnings() == []
    bulk = real.model_copy(update={"decoding_order": [1, 0, 0, 1, 1, 0, 0, 1]})
    texts = trajectory_stats([bulk], end_ids={99}).warnings()
    assert "100% of the positions share their step" in texts[0]
    assert "100% of the answers have no end token" in texts[1]


def test_statistics_need_no_torch() -> None:
    source = "import sys, tabom_cli.core.data.stats; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", source], check=False).returncode == 0
