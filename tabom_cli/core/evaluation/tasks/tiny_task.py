"""Turn an embedded task domain into an lm-eval task. Knows no single domain.

Problems come from the generators' test split; an answer is judged by the same check as in
distillation. Whether the model ended its turn does not count here: a right answer is right.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tabom_cli.core.evaluation.tasks.base import TaskSettings, TaskSpec

DEFAULT_NUM_PROBLEMS = 2000
VERDICTS = {"unparsable": "unparsable", "timeout": "timeouts", "error": "errors"}
"""Reasons that are counted apart from plainly wrong answers, and the names of their counts."""


def tiny_task(
    name: str,
    summary: str,
    *,
    executes_code: bool = False,
    extract: Callable[[str], str] | None = None,
) -> TaskSpec:
    """The task of an embedded domain.

    Args:
        name: Domain and task name.
        summary: One line for lists.
        executes_code: Whether its check runs the answer in the sandbox.
        extract: Takes out of a response what a majority vote counts; None for no votes.
    """

    def config(settings: TaskSettings) -> dict[str, Any]:
        ahead = [{"function": "custom", "filter_fn": _judge_ahead(name)}]
        return {
            "task": name,
            "custom_dataset": _dataset(name, settings.limit or DEFAULT_NUM_PROBLEMS),
            "test_split": "test",
            "output_type": "generate_until",
            "doc_to_text": "prompt",
            "doc_to_target": "answer",
            "num_fewshot": settings.num_fewshot,
            "generation_kwargs": {"until": [], "do_sample": False},
            "process_results": _judge(name),
            "unsafe_code": executes_code,
            "filter_list": [{"name": "none", "filter": ahead}] if executes_code else None,
            "metric_list": [
                {"metric": "accuracy", "aggregation": "mean", "higher_is_better": True},
                *(
                    {"metric": count, "aggregation": sum, "higher_is_better": False}
                    for count in VERDICTS.values()
                ),
            ],
            "metadata": {"version": 1.0},
        }

    return TaskSpec(
        name=name,
        summary=summary,
        metrics=("accuracy,none",),
        config=config,
        executes_code=executes_code,
        own=True,
        votes=extract is not None,
        extract=extract,
        counts=tuple(VERDICTS.values()),
    )


def _dataset(name: str, num_problems: int) -> Callable[..., dict[str, Any]]:
    def dataset(**_: Any) -> dict[str, Any]:
        from datasets import Dataset

        from tabom_cli.assets.tasks import problems

        found = problems([name], split="test", num_problems=num_problems)
        rows = [
            {
                "id": problem.id,
                "prompt": problem.prompt,
                "answer": problem.answer,
                "reference": problem.reference,
            }
            for problem in found
        ]
        return {"test": Dataset.from_list(rows)}

    return dataset


@functools.lru_cache(maxsize=16384)
def _verdict(name: str, prompt: str, response: str, reference: str) -> str:
    from tabom_cli.core.data.verify import verify

    return verify(
        name, prompt=prompt, response=response, reference=reference, task=name, ended=True
    )


def _judge(name: str) -> Callable[[Mapping[str, Any], Sequence[str]], dict[str, float]]:
    def judge(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
        verdict = _verdict(name, doc["prompt"], results[0], doc["reference"])
        counts = {name: float(verdict == reason) for reason, name in VERDICTS.items()}
        return {"accuracy": float(verdict == "correct"), **counts}

    return judge


def _judge_ahead(
    name: str,
) -> Callable[[Sequence[Sequence[str]], Sequence[Mapping[str, Any]]], list[str]]:
    """A filter that changes nothing but runs all programs on all cores before the harness asks."""

    def take_first(resps: Sequence[Sequence[str]], docs: Sequence[Mapping[str, Any]]) -> list[str]:
        def run(pair: tuple[str, Mapping[str, Any]]) -> str:
            return _verdict(name, pair[1]["prompt"], pair[0], pair[1]["reference"])

        answers = [answers[0] for answers in resps]
        with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
            list(pool.map(run, zip(answers, docs, strict=True)))
        return answers

    return take_first
