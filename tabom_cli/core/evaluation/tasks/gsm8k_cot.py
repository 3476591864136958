"""GSM8K with lm-eval's chain-of-thought prompt (arXiv 2110.14168); 0-shot in the release."""

from __future__ import annotations

from typing import Any

from tabom_cli.core.evaluation.benchmark_data import DataFile, HubData
from tabom_cli.core.evaluation.tasks.base import TaskSettings, TaskSpec

HUB = HubData("openai/gsm8k", "main", ("test",))
FILE = DataFile("gsm8k/test.jsonl", "test", {"question": str, "answer": str}, HUB, 1319)


def _config(settings: TaskSettings) -> dict[str, Any]:
    from tabom_cli.core.evaluation.tasks.harness_task import load_harness_config, with_local_data

    return with_local_data(load_harness_config("gsm8k/gsm8k-cot.yaml"), settings, FILE)


TASK = TaskSpec(
    name="gsm8k_cot",
    summary="grade school mathematics, final number",
    metrics=("exact_match,flexible-extract",),
    config=_config,
    num_problems=1319,
    files=(FILE,),
    votes=True,
)
