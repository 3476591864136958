"""IFEval: instructions that a program can check (arXiv 2311.07911). Its split is called train."""

from __future__ import annotations

from typing import Any

from tabom_cli.core.evaluation.tasks.base import DataFile, HubData, TaskSettings, TaskSpec

FILE = DataFile(
    "ifeval/input_data.jsonl",
    "train",
    ("key", "prompt", "instruction_id_list", "kwargs"),
    HubData("google/IFEval", None, ("train",)),
    541,
)


def _config(settings: TaskSettings) -> dict[str, Any]:
    from tabom_cli.core.evaluation.sentences import install_splitter
    from tabom_cli.core.evaluation.tasks.harness_task import load_harness_config, with_local_data

    install_splitter()
    return with_local_data(load_harness_config("ifeval/ifeval.yaml"), settings, FILE)


def _remarks() -> dict[str, str]:
    from tabom_cli.core.evaluation.sentences import sentence_splitter

    return {"sentence splitter": sentence_splitter()[0]}


TASK = TaskSpec(
    name="ifeval",
    summary="instructions checked by program",
    metrics=("prompt_level_loose_acc,none",),
    config=_config,
    num_problems=541,
    files=(FILE,),
    remarks=_remarks,
)
