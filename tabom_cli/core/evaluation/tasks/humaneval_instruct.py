"""HumanEval with lm-eval's instruction prompt (arXiv 2107.03374), judged in our sandbox.

The harness's helper module loads a metric from the network when it is imported, so its YAML is read
without resolving functions and the extraction is written here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tabom_cli.core.evaluation.benchmark_data import DataFile, HubData
from tabom_cli.core.evaluation.tasks import code_task
from tabom_cli.core.evaluation.tasks.base import TaskSettings, TaskSpec

FILE = DataFile(
    "humaneval/HumanEval.jsonl",
    "test",
    dict.fromkeys(("task_id", "prompt", "entry_point", "canonical_solution", "test"), str),
    HubData("openai/openai_humaneval", None, ("test",)),
    164,
)


def extract(answer: str, doc: Mapping[str, Any]) -> str:
    """The prompt's header and the answer up to the first code fence."""
    return str(doc["prompt"]) + answer.partition("```")[0]


def program(code: str, doc: Mapping[str, Any]) -> str:
    """Candidate, tests and the call that runs them."""
    return f"{code}\n{doc['test']}\ncheck({doc['entry_point']})\n"


def _config(settings: TaskSettings) -> dict[str, Any]:
    from tabom_cli.core.evaluation.tasks.harness_task import load_harness_config, with_local_data

    base = load_harness_config("humaneval/humaneval_instruct.yaml", resolve_functions=False)
    config = code_task.code_config(
        base, metric="pass@1", filter_name="create_test", extract=extract, program=program
    )
    return with_local_data(config, settings, FILE)


TASK = TaskSpec(
    name="humaneval_instruct",
    summary="Python functions from docstrings, lm-eval's prompt",
    metrics=("pass@1,create_test",),
    config=_config,
    num_problems=164,
    files=(FILE,),
    executes_code=True,
    counts=code_task.COUNTS,
    remarks=code_task.remarks,
)
