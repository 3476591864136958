"""What a trajectory file is worth: acceptance, lengths, and whether its orders are orders.

Pure functions on rows. Knows no file, no tokenizer and no tensor library; statistics of an order look
at content positions only (up to the first end token), because end-of-text tails are decoded early and
in bulk. Source: Dream issues 56 and 72.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from tabom_cli.core.data.records import Trajectory, acceptance, content_length, non_ltr_positions

NEAR_ZERO_NATS = 1e-4
"""Entropies at or below this are near zero: the top token then has a probability above 0.9999."""


@dataclass(frozen=True)
class Summary:
    """Mean, median and range of a figure over rows; `count` rows had it, zeros stand for none."""

    count: int = 0
    mean: float = 0.0
    median: float = 0.0
    low: float = 0.0
    high: float = 0.0


@dataclass(frozen=True)
class TrajectoryStats:
    """The statistics of a file.

    Attributes:
        num_rows: Rows.
        num_groups: Different prompts.
        verdicts: Rows by verdict; `none` for rows that nobody looked at.
        acceptance: Share of correct rows among the judged; None when none was.
        group_acceptance: Share of prompts with at least one correct row among those with a judged
            row; None when none was judged.
        methods: Rows by method.
        content_tokens: Tokens up to and including the first end token.
        share_unended: Share of rows without an end token.
        share_tail: Share of response tokens behind the first end token.
        end_step: Step of the first end token over the row's last step, 0 first, 1 last.
        tokens_per_step: Decoded tokens per step that revealed something, whole response.
        share_tied: Share of decoded content positions that share their step with another one.
        share_non_ltr: Share of decoded content positions decoded before something on their left.
        kendall_tau: Tau-b between step and position over decoded content positions; 1 is
            left to right, -1 right to left.
        entropy_nats: Mean recorded entropy of a row's decoded content positions.
        share_zero: Share of recorded content entropies that are exactly 0.
        share_near_zero: Share at or below 1e-4 nats.
        distinct_entropies: Different recorded content entropies of a row over their number.
    """

    num_rows: int
    num_groups: int
    verdicts: Mapping[str, int]
    acceptance: float | None
    group_acceptance: float | None
    methods: Mapping[str, int]
    content_tokens: Summary
    share_unended: float
    share_tail: float
    end_step: Summary
    tokens_per_step: Summary
    share_tied: float
    share_non_ltr: float
    kendall_tau: Summary
    entropy_nats: Summary
    share_zero: float
    share_near_zero: float
    distinct_entropies: Summary

    def warnings(self) -> list[str]:
        """What a reader should know before training on these orders; empty when nothing stands out."""
        found = []
        if self.kendall_tau.count and self.kendall_tau.mean > 0.9:
            found.append(
                f"orders are almost left to right (Kendall tau {self.kendall_tau.mean:.2f}): the "
                "ranking target is position rather than difficulty"
            )
        if self.entropy_nats.count and self.share_near_zero > 0.5:
            found.append(
                f"{self.share_near_zero:.0%} of the recorded entropies are near zero: order among "
                "them is a tie-break"
            )
        if self.share_tied > 0.5:
            found.append(
                f"{self.share_tied:.0%} of the positions share their step with another: only pairs "
                "of different steps are ranked"
            )
        if self.num_rows and self.share_unended > 0.2:
            found.append(f"{self.share_unended:.0%} of the answers have no end token")
        return found


@dataclass
class _Tally:
    """Sums over rows; one list entry per row that has the figure."""

    lengths: list[int] = field(default_factory=list)
    unended: int = 0
    tail: int = 0
    tokens: int = 0
    end_steps: list[float] = field(default_factory=list)
    per_step: list[float] = field(default_factory=list)
    tied: int = 0
    non_ltr: int = 0
    decoded: int = 0
    taus: list[float] = field(default_factory=list)
    entropies: list[float] = field(default_factory=list)
    num_entropies: int = 0
    zeros: int = 0
    near_zeros: int = 0
    distinct: list[float] = field(default_factory=list)


def trajectory_stats(rows: Iterable[Trajectory], *, end_ids: Collection[int]) -> TrajectoryStats:
    """The statistics of rows, read once.

    Args:
        rows: Any number; rows without ids or orders count where they can.
        end_ids: Ids that end an answer; empty when unknown, and every position is content then.
    """
    tally, verdicts, methods = _Tally(), Counter[str](), Counter[str]()
    groups: dict[str, set[str]] = {}
    for row in rows:
        verdicts[row.verdict or "none"] += 1
        methods[row.method or "none"] += 1
        groups.setdefault(row.group_id, set()).add(row.verdict or "none")
        _add(tally, row, end_ids)
    accepted = acceptance(verdicts)
    judged = [kinds - {"none", "unverified"} for kinds in groups.values()]
    judged = [kinds for kinds in judged if kinds and accepted is not None]
    return TrajectoryStats(
        num_rows=verdicts.total(),
        num_groups=len(groups),
        verdicts=dict(verdicts),
        acceptance=accepted,
        group_acceptance=_share(sum("correct" in k for k in judged), len(judged))
        if judged
        else None,
        methods=dict(methods),
        content_tokens=_summary(tally.lengths),
        share_unended=_share(tally.unended, len(tally.lengths)),
        share_tail=_share(tally.tail, tally.tokens),
        end_step=_summary(tally.end_steps),
        tokens_per_step=_summary(tally.per_step),
        share_tied=_share(tally.tied, tally.decoded),
        share_non_ltr=_share(tally.non_ltr, tally.decoded),
        kendall_tau=_summary(tally.taus),
        entropy_nats=_summary(tally.entropies),
        share_zero=_share(tally.zeros, tally.num_entropies),
        share_near_zero=_share(tally.near_zeros, tally.num_entropies),
        distinct_entropies=_summary(tally.distinct),
    )


def kendall_tau(order: Sequence[int]) -> float | None:
    """Tau-b between steps and positions: (C - D) / sqrt((P - T) P).

    C and D count pairs of positions whose later one was decoded later or earlier, T pairs of equal
    steps, P all pairs; positions never tie.

    Args:
        order: Steps of decoded positions, from left to right.

    Returns:
        -1 to 1; None with fewer than two positions or a single step.
    """
    steps = np.asarray(order, dtype=np.int32)
    pairs = _pairs(len(steps))
    later = int(np.count_nonzero((steps[None, :] > steps[:, None]) & pairs))
    earlier = int(np.count_nonzero((steps[None, :] < steps[:, None]) & pairs))
    if not later + earlier:
        return None
    num_pairs = len(steps) * (len(steps) - 1) // 2
    return (later - earlier) / math.sqrt((later + earlier) * num_pairs)


@lru_cache(maxsize=512)
def _pairs(count: int) -> np.ndarray:
    """(count, count) bool, True where the column lies right of the row."""
    return np.triu(np.ones((count, count), dtype=np.bool_), k=1)


def _add(tally: _Tally, row: Trajectory, end_ids: Collection[int]) -> None:
    tokens, order = row.response_token_ids, row.decoding_order
    length = None
    if tokens is not None:
        length = content_length(tokens, end_ids)
        ended = bool(tokens) and tokens[length - 1] in end_ids
        tally.lengths.append(length)
        tally.tokens += len(tokens)
        tally.tail += len(tokens) - length
        tally.unended += not ended
        if ended and order is not None and max(order, default=-1) > 0 and order[length - 1] >= 0:
            tally.end_steps.append(order[length - 1] / max(order))
    if order is not None:
        _add_order(tally, order, length)
    if row.decoding_entropy is not None:
        _add_entropies(tally, row.decoding_entropy[:length])


def _add_order(tally: _Tally, order: Sequence[int], length: int | None) -> None:
    whole = [step for step in order if step >= 0]
    if whole:
        tally.per_step.append(len(whole) / len(set(whole)))
    content = [step for step in order[:length] if step >= 0]
    counts = Counter(content)
    tally.decoded += len(content)
    tally.tied += sum(count for count in counts.values() if count > 1)
    tally.non_ltr += len(non_ltr_positions(order, length=length))
    tau = kendall_tau(content)
    if tau is not None:
        tally.taus.append(tau)


def _add_entropies(tally: _Tally, recorded: Sequence[float]) -> None:
    values = [value for value in recorded if value >= 0]
    if not values:
        return
    tally.num_entropies += len(values)
    tally.zeros += sum(value == 0.0 for value in values)
    tally.near_zeros += sum(value <= NEAR_ZERO_NATS for value in values)
    tally.entropies.append(sum(values) / len(values))
    tally.distinct.append(len(set(values)) / len(values))


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _summary(values: Sequence[float]) -> Summary:
    if not values:
        return Summary()
    return Summary(
        count=len(values),
        mean=statistics.fmean(values),
        median=float(statistics.median(values)),
        low=float(min(values)),
        high=float(max(values)),
    )
