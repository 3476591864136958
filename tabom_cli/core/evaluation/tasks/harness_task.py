"""Build lm-eval's own tasks without its task manager's index and without the network.

Relies on one private function of lm-eval, `_yaml_loader.load_yaml` (checked by a test): a dictionary
that only names a registered task does not inherit from it. Knows no single task.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tabom_cli.core.errors import DataError
from tabom_cli.core.evaluation.benchmark_data import DataFile, read_rows
from tabom_cli.core.evaluation.tasks.base import TaskSettings


def load_harness_config(relative_path: str, *, resolve_functions: bool = True) -> dict[str, Any]:
    """The configuration of a task that lm-eval ships.

    Args:
        relative_path: YAML file below lm-eval's task folder.
        resolve_functions: False leaves `!function` entries as paths, for tasks whose helper module
            reaches for the network when it is imported.
    """
    import lm_eval.tasks
    from lm_eval.tasks._yaml_loader import load_yaml

    root = Path(lm_eval.tasks.__file__).parent
    return dict(load_yaml(root / relative_path, resolve_func=resolve_functions))


def with_local_data(
    config: Mapping[str, Any],
    settings: TaskSettings,
    file: DataFile,
    *,
    prepare: Callable[[list[dict[str, Any]]], list[dict[str, Any]]] | None = None,
) -> dict[str, Any]:
    """The configuration reading `file` from the data folder, when there is one.

    Args:
        config: A task configuration.
        settings: Its data folder decides whether anything changes.
        file: Which file, as which split.
        prepare: Rows to rows, before the task sees them; raises DataError for rows that do not fit.
    """
    merged = {**config, "num_fewshot": settings.num_fewshot}
    if settings.data_dir is None:
        return merged
    data_dir = settings.data_dir
    task = str(config["task"])

    def dataset(**_: Any) -> dict[str, Any]:
        from datasets import Dataset

        rows = read_rows(data_dir, file, task=task)
        rows = prepare(rows) if prepare else rows
        if not rows:
            raise DataError(f"{data_dir / file.path}: no row is a problem of task '{task}'")
        return {file.split: Dataset.from_list(rows)}

    merged["custom_dataset"] = dataset
    merged["dataset_path"] = "json"
    merged["dataset_name"] = None
    merged["dataset_kwargs"] = None
    return merged


def shots_of_same(column: str, settings: TaskSettings, file: DataFile) -> dict[str, Any]:
    """A few-shot setting that shows the first examples with the problem's own value in a column.

    The harness keeps subjects apart as separate tasks; here they are one task. The harness tells a
    sampler the problem only when examples come from the problem's own split, hence `split`.

    Args:
        column: Such as the subject.
        settings: Whether there is local data.
        file: The examples.
    """
    from lm_eval.api.samplers import ContextSampler

    class FirstOfSame(ContextSampler):
        def sample(
            self, n: int, eval_doc: Mapping[str, Any] | None = None, df: Any = None, **_: Any
        ) -> list[Any]:
            wanted = None if eval_doc is None else eval_doc[column]
            same = [row for row in self.df if row[column] == wanted]
            if len(same) < n:
                raise DataError(
                    f"{file.path}: {len(same)} examples with {column} {wanted!r}, need {n}",
                    hint="lower eval.num_fewshot or complete the file",
                )
            return same[:n]

    def examples(_: Any) -> list[dict[str, Any]]:
        if settings.data_dir is not None:
            return read_rows(settings.data_dir, file, task=file.path)
        from tabom_cli.core.evaluation.pull import hub_rows

        return hub_rows(file)

    return {"sampler": FirstOfSame, "split": "test", "process_docs": examples}
