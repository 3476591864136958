"""MBPP with lm-eval's instruction prompt (arXiv 2108.07732), judged in our sandbox.

As in the harness, a problem's `test_setup_code` is not run, so 499 of 500 reference solutions pass.
The benchmark is task_id 11 to 510 of the 974 rows; the three shots are task_id 2 to 4.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from tabom_cli.core.evaluation.benchmark_data import DataFile, HubData, read_rows
from tabom_cli.core.evaluation.tasks import code_task
from tabom_cli.core.evaluation.tasks.base import TaskSettings, TaskSpec

FILE = DataFile(
    "mbpp/mbpp.jsonl",
    "test",
    {
        "task_id": int,
        "text": str,
        "code": str,
        # The prompt shows three.
        "test_list": Annotated[list[str], Field(min_length=3)],
        "test_setup_code": str | None,
    },
    # Rows 1 to 974 in order: the splits partition them so.
    HubData("google-research-datasets/mbpp", "full", ("prompt", "test", "validation", "train")),
    974,
)
FIRST_TASK_ID, LAST_TASK_ID = 11, 510
SHOT_TASK_IDS = (2, 3, 4)

_FENCED = re.compile(r"```(?:\w+)?\n?(.*?)\n?```", re.DOTALL)


def benchmark_rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The 500 rows of the benchmark."""
    return [row for row in rows if FIRST_TASK_ID <= row["task_id"] <= LAST_TASK_ID]


def extract(answer: str, doc: Mapping[str, Any]) -> str:
    """The first fenced block; the prompt has opened its fence. Empty when it is never closed.

    As in the harness, the first word of an answer that starts with code is taken for the language.
    """
    text = f"```{answer}"
    blocks = _FENCED.findall(text) or _FENCED.findall(text.replace("```python", "```"))
    return str(blocks[0]) if blocks else ""


def program(code: str, doc: Mapping[str, Any]) -> str:
    """Candidate and its tests."""
    return "\n".join([code, *doc["test_list"][:3]]) + "\n"


def _shots(settings: TaskSettings) -> list[dict[str, Any]]:
    if settings.data_dir is None or settings.num_fewshot == 0:
        return [{"text": "", "code": "", "test_list": ["", "", ""], "is_fewshot": True}]
    rows = read_rows(settings.data_dir, FILE, task="mbpp_instruct")
    return [{**row, "is_fewshot": True} for row in rows if row["task_id"] in SHOT_TASK_IDS]


def _config(settings: TaskSettings) -> dict[str, Any]:
    from tabom_cli.core.evaluation.tasks.harness_task import load_harness_config, with_local_data

    base = load_harness_config("mbpp/mbpp_instruct.yaml", resolve_functions=False)
    base["fewshot_config"] = {"sampler": "first_n", "samples": _shots(settings)}
    config = code_task.code_config(
        base, metric="pass_at_1", filter_name="extract_code", extract=extract, program=program
    )
    return with_local_data(config, settings, FILE, prepare=benchmark_rows)


TASK = TaskSpec(
    name="mbpp_instruct",
    summary="short Python programs with tests, lm-eval's prompt",
    metrics=("pass_at_1,extract_code", "pass_at_1,none"),
    config=_config,
    num_problems=500,
    files=(FILE,),
    executes_code=True,
    counts=code_task.COUNTS,
    remarks=code_task.remarks,
)
