"""The last phase of evaluation: answers to scores through lm-eval. Knows no model.

Every sample of a problem is scored in a pass of its own, so that lm-eval's filters, which keep the
first answer only, see each of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tabom_cli.core.errors import DataError, EnvironmentNotReady, UsageError
from tabom_cli.core.evaluation.benchmark_data import data_records
from tabom_cli.core.evaluation.records import (
    Completion,
    Request,
    RequestsHeader,
    read_completions,
    read_requests,
)
from tabom_cli.core.evaluation.scores import SampleScore, TaskScore, summarise
from tabom_cli.core.evaluation.tasks.base import TaskSettings, TaskSpec, check_data, load_tasks
from tabom_cli.core.progress import ProgressCallback, ProgressEvent, silent


def score(
    requests_path: Path,
    completions_path: Path,
    *,
    tasks: Sequence[str] | None = None,
    data_dir: Path | None = None,
    allow_code_execution: bool = False,
    only_first: int | None = None,
    progress: ProgressCallback = silent,
) -> list[TaskScore]:
    """Score the answers of a run.

    Args:
        requests_path: File made by `build_requests`; it says how the tasks were set up.
        completions_path: File made by `generate` (shards beside it are read too).
        tasks: Score these tasks only; None for all of the requests file.
        data_dir: Where the data lies on this machine; None for where it lay when the prompts
            were made.
        allow_code_execution: Consent to run generated code in the sandbox.
        only_first: Score only the first answer to this many problems of each task, for a preview.
        progress: Told after every task.

    Raises:
        UsageError: Unknown tasks, or a task that runs code without consent.
        EnvironmentNotReady: The sandbox or a package is missing.
        DataError: Answers are missing, or the prompts are no longer what they were.
    """
    header, requests = read_requests(requests_path)
    if only_first is not None:
        limit = min(only_first, header.limit or only_first)
        header = header.model_copy(update={"limit": limit, "num_samples": 1})
        requests = [r for r in requests if r.doc_index < limit and r.sample_index == 0]
    chosen = list(header.tasks) if tasks is None else list(tasks)
    foreign = [name for name in chosen if name not in header.tasks]
    if foreign:
        raise UsageError(
            f"{requests_path} holds no prompts of {', '.join(foreign)}, "
            f"only of {', '.join(header.tasks)}"
        )
    specs = load_tasks(chosen)
    check_consent(specs, allow_code_execution)
    settings = _settings(header, data_dir, allow_code_execution)
    check_data(specs, settings.data_dir)
    _, completions = read_completions(completions_path)
    source = _Lookup(requests, completions, header)
    source.check_complete(chosen, completions_path)
    scores = []
    for number, spec in enumerate(specs, start=1):
        scores.append(_score_task(spec, settings, source, header))
        progress(ProgressEvent(task="score", done=number, total=len(specs), text=spec.name))
    return scores


def check_consent(specs: Sequence[TaskSpec], allow_code_execution: bool) -> None:
    """Refuse tasks that run generated code without consent or without a working sandbox.

    Raises:
        UsageError: No consent.
        EnvironmentNotReady: The sandbox does not work here.
    """
    running = [spec.name for spec in specs if spec.executes_code]
    if not running:
        return
    if not allow_code_execution:
        raise UsageError(
            f"scoring {', '.join(running)} runs code that the model wrote",
            hint="consent with --allow-code-execution or eval.allow_code_execution: true; "
            "it runs in the sandbox only",
        )
    from tabom_cli.core.sandbox import why_unavailable

    reason = why_unavailable()
    if reason is not None:
        raise EnvironmentNotReady(
            f"scoring {', '.join(running)} needs the sandbox: {reason}",
            hint="score on another machine: copy the requests and completions files there",
        )


class _Lookup:
    """Answers by request id, as a source for the harness."""

    def __init__(
        self,
        requests: Sequence[Request],
        completions: Mapping[str, Completion],
        header: RequestsHeader,
    ) -> None:
        self._requests = {request.id: request for request in requests}
        self._completions = completions
        self._harness = header.harness

    def check_complete(self, tasks: Sequence[str], path: Path) -> None:
        wanted = [item for item in self._requests.values() if item.task in tasks]
        missing = [item for item in wanted if item.id not in self._completions]
        if missing:
            raise DataError(
                f"{path}: {len(missing)} of {len(wanted)} answers are missing, "
                f"first {missing[0].task} problem {missing[0].doc_index}",
                hint="run the same command again: it answers only what is missing",
            )

    def __call__(self, requests: Sequence[Request]) -> list[str]:
        for request in requests:
            if request.id not in self._requests:
                from tabom_cli.core.evaluation.harness import harness_version

                raise DataError(
                    f"{request.task} problem {request.doc_index} has another prompt than the "
                    f"answered one (prompts: lm-eval {self._harness}, here: {harness_version()})",
                    hint="score with the same data and the same lm-eval, or make new prompts",
                )
        return [self._completions[request.id].text for request in requests]

    def by_place(self, task: str) -> dict[tuple[int, int], Completion]:
        """Completions of a task by problem and sample."""
        return {
            (item.doc_index, item.sample_index): self._completions[item.id]
            for item in self._requests.values()
            if item.task == task
        }


def _settings(
    header: RequestsHeader, data_dir: Path | None, allow_code_execution: bool
) -> TaskSettings:
    if data_dir is None and header.data_dir is not None:
        data_dir = Path(header.data_dir)
    return TaskSettings(
        data_dir=data_dir,
        num_fewshot=header.num_fewshot,
        limit=header.limit,
        allow_code_execution=allow_code_execution,
    )


def _score_task(
    spec: TaskSpec, settings: TaskSettings, source: _Lookup, header: RequestsHeader
) -> TaskScore:
    from tabom_cli.core.evaluation.harness import evaluate

    places = source.by_place(spec.name)
    samples: list[SampleScore] = []
    totals: dict[str, list[float]] = defaultdict(list)
    key, version = "", ""
    for sample_index in range(header.num_samples):
        results = evaluate(spec, settings, source, seed=header.seed, sample_index=sample_index)
        values = _metrics(results["results"][spec.name])
        key = primary_key(spec, values)
        version = str(results["versions"].get(spec.name))
        for name, value in values.items():
            totals[name].append(value)
        rows = results["samples"][spec.name]
        samples.extend(_samples(rows, key, sample_index, places, spec.extract))
    samples.sort(key=lambda sample: (sample.doc_index, sample.sample_index))
    summary = summarise(samples, num_samples=header.num_samples, votes=spec.votes, seed=header.seed)
    return TaskScore(
        task=spec.name,
        version=version,
        metric=key,
        value=summary.value,
        interval=summary.interval,
        interval_kind=summary.interval_kind,
        num_correct=summary.num_correct,
        num_total=summary.num_total,
        num_problems=summary.num_problems,
        num_samples=header.num_samples,
        metrics={
            name: sum(values) / (1 if _name(name) in spec.counts else len(values))
            for name, values in totals.items()
        },
        counts={
            _name(name): round(sum(values))
            for name, values in totals.items()
            if _name(name) in spec.counts
        },
        pass_at=summary.pass_at,
        majority=summary.majority,
        samples=samples,
        remarks=spec.remarks() if spec.remarks is not None else {},
        published_problems=spec.num_problems,
        data=data_records(spec.files, settings.data_dir),
    )


def primary_key(spec: TaskSpec, metrics: Mapping[str, float]) -> str:
    """The full key of the task's primary metric: by exact key, else by metric name.

    Raises:
        DataError: The harness reported no such metric.
    """
    for wanted in spec.metrics:
        if wanted in metrics:
            return wanted
    for wanted in spec.metrics:
        for key in metrics:
            if _name(key) == _name(wanted):
                return key
    raise DataError(
        f"task '{spec.name}': lm-eval reported {', '.join(metrics) or 'nothing'}, "
        f"none of {', '.join(spec.metrics)}"
    )


def _name(key: str) -> str:
    """The metric of a key `metric,filter`."""
    return key.partition(",")[0]


def _metrics(reported: Mapping[str, Any]) -> dict[str, float]:
    return {
        key: float(value)
        for key, value in reported.items()
        if "," in key and "_stderr" not in key and isinstance(value, int | float)
    }


def _samples(
    rows: Sequence[Mapping[str, Any]],
    key: str,
    sample_index: int,
    places: Mapping[tuple[int, int], Completion],
    extract: Callable[[str], str] | None,
) -> list[SampleScore]:
    metric, _, filter_name = key.partition(",")
    found = []
    for row in rows:
        if row["filter"] != filter_name:
            continue
        completion = places[row["doc_id"], sample_index]
        filtered = row["filtered_resps"][0]
        text = filtered if isinstance(filtered, str) else str(filtered)
        found.append(
            SampleScore(
                doc_index=row["doc_id"],
                sample_index=sample_index,
                request_id=completion.id,
                score=float(row[metric]),
                extracted=text if extract is None else extract(text),
                target=str(row["target"]),
                text=completion.text,
                metrics={
                    name: float(row[name])
                    for name in row["metrics"]
                    if name != metric and isinstance(row[name], bool | int | float)
                },
            )
        )
    return found
