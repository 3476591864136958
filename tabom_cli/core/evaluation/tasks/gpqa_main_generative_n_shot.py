"""GPQA main with generated answers (arXiv 2311.12022).

Prompt, filters and metric are lm-eval's; the order of the options is drawn from the question's own
text, where lm-eval draws it from a global generator and so changes it from run to run.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from tabom_cli.core.evaluation.benchmark_data import DataFile, HubData
from tabom_cli.core.evaluation.tasks.base import TaskSettings, TaskSpec

_OPTIONS = ("Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3", "Correct Answer")
HUB = HubData("Idavidrein/gpqa", "gpqa_main", ("train",), gated=True)
FILE = DataFile(
    "gpqa/gpqa_main.jsonl",
    "train",
    {"Question": str, **dict.fromkeys(_OPTIONS, str | None)},
    HUB,
    448,
)


def with_options(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with `choice1` to `choice4` and the letter of the right one as `answer`."""
    texts = [_clean(row[name]) for name in _OPTIONS]
    order = list(range(len(texts)))
    random.Random(str(row["Question"])).shuffle(order)
    choices = [texts[index] for index in order]
    return {
        "Question": row["Question"],
        **{f"choice{number}": text for number, text in enumerate(choices, start=1)},
        "choices": choices,
        "answer": f"({'ABCD'[order.index(len(texts) - 1)]})",
    }


def _clean(text: str | None) -> str:
    """The harness's clean-up of an option."""
    return " " if text is None else text.strip().replace(" [title]", ". ").replace("  ", " ")


def _process_docs(dataset: Any) -> Any:
    return dataset.map(
        with_options, remove_columns=dataset.column_names, load_from_cache_file=False
    )


def _config(settings: TaskSettings) -> dict[str, Any]:
    from tabom_cli.core.evaluation.tasks import harness_task

    config = harness_task.load_harness_config(
        "gpqa/generative/gpqa_main_generative_n_shot.yaml", resolve_functions=False
    )
    config |= {"process_docs": _process_docs}
    return harness_task.with_local_data(config, settings, FILE)


TASK = TaskSpec(
    name="gpqa_main_generative_n_shot",
    summary="graduate-level science questions, the letter is generated",
    metrics=("exact_match,flexible-extract",),
    config=_config,
    num_problems=448,
    files=(FILE,),
    votes=True,
)
