"""HumanEval with the 0-shot prompt that Dream and the TABOM release evaluate with.

Differs from lm-eval's own in the instruction (the fence is left open and has no language) and in the
extraction, which keeps only what the entry point needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tabom_cli.core.evaluation.sanitize import names_used, sanitize
from tabom_cli.core.evaluation.tasks import code_task
from tabom_cli.core.evaluation.tasks.base import TaskSettings, TaskSpec
from tabom_cli.core.evaluation.tasks.humaneval_instruct import FILE, program

PROMPT = (
    "Write a solution to the following problem and make sure that it passes the tests:\n"
    "```{{prompt}}"
)
GEN_PREFIX = "Here is the completed function:\n```python\n{{prompt}}\n"


def extract(answer: str, doc: Mapping[str, Any]) -> str:
    """Header and last fenced block, reduced to what the entry point needs."""
    block = answer.rpartition("```python\n")[2].partition("```")[0]
    return sanitize(
        f"{doc['prompt']}\n{block}", str(doc["entry_point"]), also=names_used(str(doc["test"]))
    )


def _config(settings: TaskSettings) -> dict[str, Any]:
    from tabom_cli.core.evaluation.tasks.harness_task import load_harness_config, with_local_data

    base = load_harness_config("humaneval/humaneval_instruct.yaml", resolve_functions=False)
    base |= {
        "task": "humaneval_instruct_dream",
        "doc_to_text": PROMPT,
        "gen_prefix": GEN_PREFIX,
        "metadata": {"version": 2.0},
    }
    config = code_task.code_config(
        base, metric="pass@1", filter_name="create_test", extract=extract, program=program
    )
    return with_local_data(config, settings, FILE)


TASK = TaskSpec(
    name="humaneval_instruct_dream",
    summary="Python functions from docstrings, the release's 0-shot prompt",
    metrics=("pass@1,create_test",),
    config=_config,
    num_problems=164,
    files=(FILE,),
    executes_code=True,
    counts=code_task.COUNTS,
    remarks=code_task.remarks,
)
