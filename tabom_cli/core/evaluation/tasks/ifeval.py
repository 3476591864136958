"""IFEval: instructions that a program can check (arXiv 2311.07911). Its split is called train."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from tabom_cli.core.errors import DataError
from tabom_cli.core.evaluation.benchmark_data import DataFile, HubData
from tabom_cli.core.evaluation.tasks.base import TaskSettings, TaskSpec

FILE = DataFile(
    "ifeval/input_data.jsonl",
    "train",
    {
        "key": int,
        "prompt": str,
        "instruction_id_list": Annotated[list[str], Field(min_length=1)],
        "kwargs": list[dict[str, Any]],
    },
    HubData("google/IFEval", None, ("train",)),
    541,
)


def _checked(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows, after every instruction was built once: the harness builds them when it scores."""
    faults = [
        f"{FILE.path}: key {row['key']}: {fault}"
        for row in rows
        if (fault := _fault(row)) is not None
    ]
    if faults:
        more = [f"and {len(faults) - 5} more"] if len(faults) > 5 else []
        raise DataError("\n".join(faults[:5] + more))
    return rows


def _fault(row: Mapping[str, Any]) -> str | None:
    from lm_eval.tasks.ifeval.instructions_registry import INSTRUCTION_DICT

    names, arguments = row["instruction_id_list"], row["kwargs"]
    if len(names) != len(arguments):
        return f"{len(names)} instructions but {len(arguments)} kwargs"
    for name, given in zip(names, arguments, strict=True):
        if name not in INSTRUCTION_DICT:
            return f"unknown instruction '{name}'"
        known = {key: value for key, value in given.items() if value}
        instruction = INSTRUCTION_DICT[name](name)
        # The harness would draw a missing argument at random.
        missing = [key for key in instruction.get_instruction_args_keys() if key not in known]
        if missing:
            return f"'{name}' lacks {', '.join(missing)}"
        try:
            instruction.build_description(**known)
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            return f"'{name}' does not take {known}: {error}"
    return None


def _config(settings: TaskSettings) -> dict[str, Any]:
    import langdetect

    from tabom_cli.core.evaluation.sentences import install_splitter
    from tabom_cli.core.evaluation.tasks.harness_task import load_harness_config, with_local_data

    install_splitter()
    # Unseeded, the detector of languages gives the same answers another score from run to run.
    langdetect.DetectorFactory.seed = 0
    return with_local_data(
        load_harness_config("ifeval/ifeval.yaml"), settings, FILE, prepare=_checked
    )


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
