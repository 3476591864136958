"""MBPP with the 0-shot prompt that Dream and the TABOM release evaluate with.

The prompt opens the fence and the answer ends at the next one. `test_setup_code` runs between the
candidate and the tests, in which order all reference solutions pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tabom_cli.core.evaluation.tasks import code_task
from tabom_cli.core.evaluation.tasks.base import TaskSettings, TaskSpec
from tabom_cli.core.evaluation.tasks.mbpp_instruct import FILE, benchmark_rows

PROMPT = (
    "You are an expert Python programmer, and here is your task: {{text}} "
    "Your code should pass these tests:\n\n"
    "{{test_list[0]}}\n{{test_list[1]}}\n{{test_list[2]}}"
)
GEN_PREFIX = "Here is the completed function:\n```python\n"


def extract(answer: str, doc: Mapping[str, Any]) -> str:
    """The answer itself, up to the fence that closes it."""
    return answer.partition("```")[0]


def program(code: str, doc: Mapping[str, Any]) -> str:
    """Candidate, set-up of the tests, tests."""
    return "\n".join([code, doc["test_setup_code"] or "", *doc["test_list"]]) + "\n"


def _config(settings: TaskSettings) -> dict[str, Any]:
    from tabom_cli.core.evaluation.tasks.harness_task import with_local_data

    config = code_task.code_config(
        {
            "task": "mbpp_instruct_dream",
            "dataset_path": "google-research-datasets/mbpp",
            "dataset_name": "full",
            "test_split": "test",
            "output_type": "generate_until",
            "doc_to_text": PROMPT,
            "doc_to_target": "{{code}}",
            "gen_prefix": GEN_PREFIX,
            "generation_kwargs": {"until": ["```"], "do_sample": False},
            "metadata": {"version": 1.0},
        },
        metric="pass_at_1",
        filter_name="none",
        extract=extract,
        program=program,
    )
    return with_local_data(config, settings, FILE, prepare=benchmark_rows)


TASK = TaskSpec(
    name="mbpp_instruct_dream",
    summary="short Python programs with tests, the release's 0-shot prompt",
    metrics=("pass_at_1,none",),
    config=_config,
    num_problems=500,
    files=(FILE,),
    executes_code=True,
    counts=code_task.COUNTS,
    remarks=code_task.remarks,
)
