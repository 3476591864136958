"""MATH-500 with lm-eval's Minerva prompt; 0-shot in the release, 4-shot in the harness.

Public copies of the data often hold problem and answer only; the harness wants a worked solution and
reads the answer out of its box, so such rows get a solution that is the boxed answer.
"""

from __future__ import annotations

from typing import Any

from tabom_cli.core.evaluation.benchmark_data import DataFile, HubData
from tabom_cli.core.evaluation.tasks.base import TaskSettings, TaskSpec

HUB = HubData("HuggingFaceH4/MATH-500", None, ("test",))
FILE = DataFile(
    "math500/test.jsonl",
    "test",
    {"problem": str, "answer": str},
    HUB,
    500,
    optional={"solution": str | None},
)


def _with_solutions(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "problem": row["problem"],
            "solution": row["solution"] or f"\\boxed{{{row['answer']}}}",
            "answer": row["answer"],
        }
        for row in rows
    ]


def _config(settings: TaskSettings) -> dict[str, Any]:
    from tabom_cli.core.evaluation.tasks.harness_task import load_harness_config, with_local_data

    config = load_harness_config("minerva_math/minerva_math500.yaml")
    return with_local_data(config, settings, FILE, prepare=_with_solutions)


def _final_answer(text: str) -> str:
    from tabom_cli.core.data.math_answers import final_answer

    return "".join((final_answer(text) or "").strip("$").split())


TASK = TaskSpec(
    name="minerva_math500",
    summary="competition mathematics, symbolic comparison",
    metrics=("math_verify,none", "exact_match,none"),
    config=_config,
    num_problems=500,
    files=(FILE,),
    votes=True,
    extract=_final_answer,
)
