"""Intervals and comparisons of benchmark scores. Knows neither tasks nor files.

Pure standard library: the numbers are small and the arithmetic should be readable.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from tabom_cli.core.errors import DataError

Z_95 = 1.959963984540054
"""Two-sided 95 % quantile of the standard normal distribution."""


@dataclass(frozen=True)
class Interval:
    """A closed interval of a proportion or of a difference of proportions, in [-1, 1]."""

    low: float
    high: float

    def contains(self, value: float) -> bool:
        """Whether `value` lies inside, ends included."""
        return self.low <= value <= self.high


@dataclass(frozen=True)
class Comparison:
    """A paired comparison of two runs on the same problems.

    Attributes:
        difference: Mean of b minus mean of a.
        interval: 95 % percentile interval of the difference over resampled problems.
        num_problems: Problems that both runs answered.
        wins: Problems on which b scores higher.
        losses: Problems on which a scores higher.
        p_value: Exact two-sided sign test (McNemar) over wins and losses.
    """

    difference: float
    interval: Interval
    num_problems: int
    wins: int
    losses: int
    p_value: float

    @property
    def is_real(self) -> bool:
        """Whether zero lies outside the interval."""
        return not self.interval.contains(0.0)


def wilson_interval(num_correct: int, num_total: int, z: float = Z_95) -> Interval:
    """Wilson's score interval of a proportion; (0, 1) when nothing was measured.

    With p = k/n: (p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n).

    Raises:
        DataError: The counts contradict each other.

    Source: E. B. Wilson, JASA 22 (1927).
    """
    if not 0 <= num_correct <= num_total:
        raise DataError(f"{num_correct} correct of {num_total}: counts must satisfy 0 <= k <= n")
    if num_total == 0:
        return Interval(0.0, 1.0)
    rate = num_correct / num_total
    spread = z * z / num_total
    centre = rate + spread / 2
    half = z * math.sqrt(rate * (1 - rate) / num_total + spread / (4 * num_total))
    low = 0.0 if num_correct == 0 else (centre - half) / (1 + spread)
    high = 1.0 if num_correct == num_total else (centre + half) / (1 + spread)
    return Interval(low, high)


def pass_at_k(num_samples: int, num_correct: int, k: int) -> float:
    """Probability that at least one of k samples drawn without replacement is correct.

    Equals 1 - C(n - c, k) / C(n, k), as a product that does not overflow.

    Raises:
        DataError: k is larger than the number of samples, or the counts contradict each other.

    Source: M. Chen et al., Evaluating Large Language Models Trained on Code (2021), Eq. 1.
    """
    if not 0 <= num_correct <= num_samples or not 1 <= k <= num_samples:
        raise DataError(f"pass@{k} is undefined for {num_correct} correct of {num_samples} samples")
    if num_samples - num_correct < k:
        return 1.0
    missed = 1.0
    for index in range(num_samples - num_correct + 1, num_samples + 1):
        missed *= 1.0 - k / index
    return 1.0 - missed


def majority_vote(answers: Sequence[Hashable | None]) -> Hashable | None:
    """The most frequent answer; the earliest among equals; None when no answer was extracted."""
    votes = Counter(answer for answer in answers if answer is not None)
    # Counter keeps first-seen order and max returns the first maximum.
    return max(votes, key=lambda answer: votes[answer]) if votes else None


def bootstrap_interval(
    values: Sequence[float], *, num_resamples: int = 10_000, seed: int = 0
) -> Interval:
    """95 % percentile interval of the mean over resampled problems.

    Args:
        values: One score per problem, for instance its pass@k or a paired difference.
        num_resamples: Resamples drawn.
        seed: Fixes the resamples.
    """
    if not values:
        raise DataError("a bootstrap interval needs at least one value")
    generator = random.Random(seed)
    num = len(values)
    # Few distinct values are the rule (0, 1, -1): drawing counts is much faster than drawing rows.
    means = sorted(math.fsum(generator.choices(values, k=num)) / num for _ in range(num_resamples))
    return Interval(_quantile(means, 0.025), _quantile(means, 0.975))


def compare_paired(
    scores_a: Sequence[float],
    scores_b: Sequence[float],
    *,
    num_resamples: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Compare two runs problem by problem with a paired bootstrap and an exact sign test.

    Args:
        scores_a: Scores of the first run, one per problem.
        scores_b: Scores of the second run for the same problems in the same order.
        num_resamples: Resamples of problems.
        seed: Fixes the resamples.

    Raises:
        DataError: The runs have no problems or different numbers of them.
    """
    if len(scores_a) != len(scores_b) or not scores_a:
        raise DataError(
            f"a paired comparison needs the same problems: {len(scores_a)} against {len(scores_b)}"
        )
    differences = [b - a for a, b in zip(scores_a, scores_b, strict=True)]
    wins = sum(difference > 0 for difference in differences)
    losses = sum(difference < 0 for difference in differences)
    return Comparison(
        difference=math.fsum(differences) / len(differences),
        interval=bootstrap_interval(differences, num_resamples=num_resamples, seed=seed),
        num_problems=len(differences),
        wins=wins,
        losses=losses,
        p_value=sign_test(wins, losses),
    )


def sign_test(wins: int, losses: int) -> float:
    """Exact two-sided binomial p-value for `wins` against `losses` under equal chances."""
    num = wins + losses
    if num == 0:
        return 1.0
    tail = sum(math.comb(num, index) for index in range(min(wins, losses) + 1))
    return min(1.0, 2 * tail / 2**num)


def _quantile(ordered: Sequence[float], level: float) -> float:
    """Linear interpolation between order statistics, as numpy's default."""
    place = level * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)
