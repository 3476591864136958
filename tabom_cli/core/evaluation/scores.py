"""Scored answers of one task, and what follows from them. Knows neither lm-eval nor files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tabom_cli.core.evaluation.benchmark_data import DataRecord
from tabom_cli.core.evaluation.statistics import (
    Interval,
    bootstrap_interval,
    majority_vote,
    pass_at_k,
    wilson_interval,
)

IntervalKind = Literal["wilson", "bootstrap over problems"]

_NO_ANSWER = ("[invalid]", "")
_NUM_RESAMPLES = 2000


@dataclass(frozen=True)
class SampleScore:
    """One scored answer.

    Attributes:
        doc_index: Row of the problem in the task's data.
        sample_index: Which answer to the problem.
        request_id: Id of the request, by which the completion is found.
        score: Value of the primary metric, 0 or 1 for all tasks here.
        extracted: What the harness's filter took out of the answer.
        target: The reference as the harness renders it.
        text: The answer.
        metrics: Other values of this sample under the same filter.
    """

    doc_index: int
    sample_index: int
    request_id: str
    score: float
    extracted: str
    target: str
    text: str
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Rate:
    """A mean over problems with its 95 % interval, both in [0, 1], and where that comes from."""

    value: float
    interval: Interval
    kind: IntervalKind


@dataclass(frozen=True)
class TaskScore:
    """The score of one task.

    Attributes:
        task: Task name.
        version: The harness's version of the task.
        metric: Full key of the primary metric, such as `exact_match,flexible-extract`.
        value: Mean of the primary metric, in [0, 1].
        interval: 95 % interval: Wilson's when every problem scores 0 or 1 (a bootstrap of equal
            scores would have no width), else a bootstrap over problems.
        interval_kind: Which of the two it is.
        num_correct: Answers with score 1; None when the metric is not 0 or 1.
        num_total: Answers scored.
        num_problems: Problems scored.
        num_samples: Answers per problem.
        metrics: Every metric of the harness by full key, averaged over samples; counts add up.
        counts: Answers by what went wrong with them, where the task tells, such as timeouts.
        pass_at: Unbiased pass@k by k; only with several samples.
        majority: Accuracy of the most frequent extracted answer; only where answers can be counted.
        samples: Every scored answer.
        remarks: Facts of this machine that the score depends on.
        published_problems: Problems of the whole benchmark, None when generated.
        data: The local files that the problems came from, empty when from the Hub or generated.
    """

    task: str
    version: str
    metric: str
    value: float
    interval: Interval
    interval_kind: IntervalKind
    num_correct: int | None
    num_total: int
    num_problems: int
    num_samples: int
    metrics: Mapping[str, float]
    counts: Mapping[str, int]
    pass_at: Mapping[int, Rate]
    majority: Rate | None
    samples: Sequence[SampleScore]
    remarks: Mapping[str, str] = field(default_factory=dict)
    published_problems: int | None = None
    data: Sequence[DataRecord] = ()


@dataclass(frozen=True)
class Summary:
    """What follows from the scored answers alone; the fields are those of `TaskScore`."""

    value: float
    interval: Interval
    interval_kind: IntervalKind
    num_correct: int | None
    num_total: int
    num_problems: int
    pass_at: Mapping[int, Rate]
    majority: Rate | None


def summarise(
    samples: Sequence[SampleScore], *, num_samples: int, votes: bool, seed: int = 0
) -> Summary:
    """Mean, counts, intervals, pass@k and majority vote of scored answers.

    Args:
        samples: All answers, `num_samples` per problem.
        num_samples: Answers per problem.
        votes: Whether extracted answers can be counted.
        seed: Fixes the bootstraps.
    """
    by_problem: dict[int, list[SampleScore]] = defaultdict(list)
    for sample in samples:
        by_problem[sample.doc_index].append(sample)
    groups = list(by_problem.values())
    binary = all(sample.score in (0.0, 1.0) for sample in samples)
    num_correct = sum(sample.score == 1.0 for sample in samples) if binary else None
    rate = _rate([sum(sample.score for sample in group) / len(group) for group in groups], seed)
    several = num_samples > 1 and binary
    return Summary(
        value=rate.value,
        interval=rate.interval,
        interval_kind=rate.kind,
        num_correct=num_correct,
        num_total=len(samples),
        num_problems=len(groups),
        pass_at=_pass_rates(groups, num_samples, seed) if several else {},
        majority=_majority(groups, seed) if several and votes else None,
    )


def _pass_rates(
    groups: Sequence[Sequence[SampleScore]], num_samples: int, seed: int
) -> dict[int, Rate]:
    wanted = {k for k in (1, 2, 4, 8, 16, 32, 64, 128) if k <= num_samples} | {num_samples}
    correct = [sum(sample.score == 1.0 for sample in group) for group in groups]
    return {
        k: _rate([pass_at_k(num_samples, count, k) for count in correct], seed)
        for k in sorted(wanted)
    }


def _majority(groups: Sequence[Sequence[SampleScore]], seed: int) -> Rate:
    values = []
    for group in groups:
        answers = [None if item.extracted in _NO_ANSWER else item.extracted for item in group]
        winner = majority_vote(answers)
        values.append(max((item.score for item in group if item.extracted == winner), default=0.0))
    return _rate(values, seed)


def _rate(values: Sequence[float], seed: int) -> Rate:
    mean = sum(values) / len(values)
    if all(value in (0.0, 1.0) for value in values):
        return Rate(mean, wilson_interval(round(sum(values)), len(values)), "wilson")
    interval = bootstrap_interval(values, num_resamples=_NUM_RESAMPLES, seed=seed)
    return Rate(mean, interval, "bootstrap over problems")
