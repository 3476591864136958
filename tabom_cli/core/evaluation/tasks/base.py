"""What a task file says about its task, and how tasks are found by name.

Knows no task and does not import lm-eval or datasets: listing tasks must be quick.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from tabom_cli.core import plugins
from tabom_cli.core.errors import DataError, TabomError, UsageError
from tabom_cli.core.evaluation.benchmark_data import DataFile, data_records, read_rows

KIND = "evaluation task"

_LOGLIKELIHOODS = """
agieval anli arabicmmlu arc bbq belebele blimp boolq c4 cb ceval cmmlu cola commonsense_qa copa
crows_pairs eus_exams global_mmlu glue gpqa haerae headqa hellaswag hendrycks_ethics
include_base_44 kmmlu kobest lambada logiqa logiqa2 mathqa mc_taco medmcqa medqa mela metabench
mmlu mnli mrpc multirc mutual openbookqa paloma paws pawsx pile piqa pubmedqa qa4mre qnli qqp
race record rte sciq sib200 siqa social_iqa sst sst2 storycloze super_glue swag tinyArc
tinyHellaswag tinyMMLU tinyTruthfulQA tinyWinogrande truthfulqa webqs wic wikitext winogender
winogrande wmdp wnli wsc wsc273 xcopa xnli xstorycloze xwinograd
"""
LOGLIKELIHOOD_TASKS = tuple(_LOGLIKELIHOODS.split())
"""Well-known tasks and families that need log-likelihoods, which a masked diffusion model lacks."""
_GENERATES = (
    "generative",
    "_cot",
    "_gen",
    "llama",
    "chat",
    "_direct",
    "mmlu_pro",
    "agieval_math",
    "mathcloze",
)
"""Parts of names of the variants of those tasks that generate text."""


def needs_loglikelihoods(name: str) -> bool:
    """Whether a task of the harness is known by its name to need log-likelihoods."""
    of_family = any(name == stem or name.startswith(f"{stem}_") for stem in LOGLIKELIHOOD_TASKS)
    return of_family and not any(part in name for part in _GENERATES)


@dataclass(frozen=True)
class TaskSettings:
    """What a task file may look at when it builds its lm-eval configuration.

    Attributes:
        data_dir: Folder with local data, None to let the harness load from the Hub.
        num_fewshot: Examples in the prompt.
        limit: Problems wanted, None for all.
        allow_code_execution: Consent to run generated code in the sandbox.
    """

    data_dir: Path | None = None
    num_fewshot: int = 0
    limit: int | None = None
    allow_code_execution: bool = False


@dataclass(frozen=True)
class TaskSpec:
    """One benchmark.

    Attributes:
        name: Equals the file name.
        summary: One line for `tabom eval --list`.
        metrics: Keys of the primary metric in lm-eval's results, most wanted first; a metric of the
            same name under another filter is the last resort.
        config: Makes the dictionary that lm-eval's task manager loads.
        num_problems: Problems in the published benchmark, None when generated.
        files: Local data that replaces the Hub, empty when the task makes its own problems.
        executes_code: Whether scoring runs generated code, which needs consent and the sandbox.
        own: Whether the task ships with tabom and needs no data folder.
        votes: Whether extracted answers can be counted for a majority vote.
        extract: Takes the final answer out of a text (empty when there is none), for votes and
            lists, where the harness's filter does not.
        counts: Names of metrics that count answers, such as timeouts; the others are means.
        remarks: Facts of this machine that the score depends on, for the results.
    """

    name: str
    summary: str
    metrics: tuple[str, ...]
    config: Callable[[TaskSettings], dict[str, Any]]
    num_problems: int | None = None
    files: tuple[DataFile, ...] = ()
    executes_code: bool = False
    own: bool = False
    votes: bool = False
    extract: Callable[[str], str] | None = None
    counts: tuple[str, ...] = ()
    remarks: Callable[[], dict[str, str]] | None = None


def task_names() -> list[str]:
    """All task names, read from the folder without importing anything."""
    return plugins.names(KIND)


def load_task(name: str) -> TaskSpec:
    """The task of that name.

    Raises:
        UsageError: The task is unknown or needs log-likelihoods.
    """
    known = task_names()
    if name in known:
        return cast("TaskSpec", plugins.load(KIND, name).TASK)
    near = plugins.nearest(name, known)
    if needs_loglikelihoods(name):
        generated = near if near is not None and near.startswith(name[:4]) else ", ".join(known)
        raise UsageError(
            f"task '{name}' needs log-likelihoods, which a masked diffusion model does not offer",
            hint=f"choose a task that generates text: {generated}",
        )
    raise UsageError(
        f"unknown task '{name}': there are {', '.join(known)}",
        hint=f"did you mean '{near}'?" if near else "see `tabom eval --list`",
    )


def load_tasks(names: Sequence[str]) -> list[TaskSpec]:
    """Several tasks; all faults are shown together.

    Raises:
        UsageError: No name, a name given twice, or names that `load_task` refuses.
    """
    if not names:
        raise UsageError("no task given", hint="name one: see `tabom eval --list`")
    if len(set(names)) != len(names):
        raise UsageError(f"a task is named twice: {', '.join(names)}")
    specs, faults = [], []
    for name in names:
        try:
            specs.append(load_task(name))
        except UsageError as error:
            faults.append(error)
    if faults:
        raise _together(faults, UsageError)
    return specs


def check_data(specs: Sequence[TaskSpec], data_dir: Path | None) -> None:
    """Check that the data folder has every file with the columns its task reads.

    Only the first row of each file is read, so that this can run before a model is loaded.

    Raises:
        DataError: The folder or files are missing or have other columns; all faults together.
    """
    if data_dir is None:
        return
    if not data_dir.is_dir():
        raise DataError(f"{data_dir}: no such data folder", hint="check --data-dir")
    faults = []
    for spec in specs:
        for file in spec.files:
            try:
                read_rows(data_dir, file, task=spec.name, first_only=True)
            except DataError as error:
                faults.append(error)
    if faults:
        raise _together(faults, DataError)


def data_faults(specs: Sequence[TaskSpec], data_dir: Path | None) -> list[str]:
    """Sentences about data files with another number of rows than the published ones."""
    files = {file.path: file for spec in specs for file in spec.files}
    records = data_records(list(files.values()), data_dir)
    return [record.fault for record in records if record.fault]


def _together(faults: Sequence[TabomError], kind: type[TabomError]) -> TabomError:
    hints = dict.fromkeys(fault.hint for fault in faults if fault.hint)
    return kind("\n".join(fault.message for fault in faults), hint="; ".join(hints) or None)
