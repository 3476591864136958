"""MMLU with generated answers (arXiv 2009.03300), all 57 subjects as one task.

Prompt, filter and metric are lm-eval's `mmlu_*_generative`; its 57 tasks are weighted by size there,
which is what one task over all rows gives. Examples come from the problem's own subject.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from tabom_cli.core.evaluation.benchmark_data import DataFile, HubData
from tabom_cli.core.evaluation.tasks.base import TaskSettings, TaskSpec

_COLUMNS = {
    "question": str,
    "subject": str,
    "choices": Annotated[list[str], Field(min_length=4, max_length=4)],
    "answer": Annotated[int, Field(ge=0, le=3)],
}
FILE = DataFile("mmlu/test.jsonl", "test", _COLUMNS, HubData("cais/mmlu", "all", ("test",)), 14042)
SHOTS = DataFile("mmlu/dev.jsonl", "dev", _COLUMNS, HubData("cais/mmlu", "all", ("dev",)), 285)
DESCRIPTION = (
    "The following are multiple choice questions (with answers) about "
    "{{subject | replace('_', ' ')}}.\n\n"
)


def _config(settings: TaskSettings) -> dict[str, Any]:
    from tabom_cli.core.evaluation.tasks import harness_task

    config = harness_task.load_harness_config("mmlu/generative/_default_template_yaml")
    config.pop("fewshot_split", None)
    config |= {
        "task": "mmlu_generative",
        "dataset_name": "all",
        "description": DESCRIPTION,
        "fewshot_config": harness_task.shots_of_same("subject", settings, SHOTS),
    }
    return harness_task.with_local_data(config, settings, FILE)


TASK = TaskSpec(
    name="mmlu_generative",
    summary="multiple choice over 57 subjects, the letter is generated",
    metrics=("exact_match,get_response",),
    config=_config,
    num_problems=14042,
    files=(FILE, SHOTS),
    votes=True,
)
