"""MMLU-Pro (arXiv 2406.01574): ten options, reasoning, then the letter; 14 categories as one task.

Prompt, filter and metric are lm-eval's `mmlu_pro_*`, which are weighted by size there. Examples come
from the problem's own category.
"""

from __future__ import annotations

from typing import Any

from tabom_cli.core.evaluation.benchmark_data import DataFile, HubData
from tabom_cli.core.evaluation.tasks.base import TaskSettings, TaskSpec

_COLUMNS = {
    "question": str,
    "options": list[str],
    "answer": str,
    "category": str,
    "cot_content": str,
}
FILE = DataFile(
    "mmlu_pro/test.jsonl", "test", _COLUMNS, HubData("TIGER-Lab/MMLU-Pro", None, ("test",)), 12032
)
SHOTS = DataFile(
    "mmlu_pro/validation.jsonl",
    "validation",
    _COLUMNS,
    HubData("TIGER-Lab/MMLU-Pro", None, ("validation",)),
    70,
)
DESCRIPTION = (
    "The following are multiple choice questions (with answers) about {{category}}. Think step by "
    'step and then finish your answer with "the answer is (X)" where X is the correct letter '
    "choice.\n"
)


def _config(settings: TaskSettings) -> dict[str, Any]:
    from tabom_cli.core.evaluation.tasks import harness_task

    config = harness_task.load_harness_config("mmlu_pro/_default_template_yaml")
    config.pop("fewshot_split", None)
    shots = harness_task.shots_of_same("category", settings, SHOTS)
    config |= {
        "task": "mmlu_pro",
        "description": DESCRIPTION,
        "fewshot_config": {**config["fewshot_config"], **shots},
    }
    return harness_task.with_local_data(config, settings, FILE)


TASK = TaskSpec(
    name="mmlu_pro",
    summary="multiple choice with ten options, reasoning first",
    metrics=("exact_match,custom-extract",),
    config=_config,
    num_problems=12032,
    files=(FILE, SHOTS),
    votes=True,
)
