"""From prompts to a verified trajectory file that grows row by row and survives a kill.

Knows prompts, decoding, answer checks and trajectory files; does not train and never prints.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from tabom_cli.core import sandbox
from tabom_cli.core.data.prompts import Prompt, load_prompts
from tabom_cli.core.data.records import Trajectory, Verdict
from tabom_cli.core.data.verify import verify
from tabom_cli.core.data.writer import Identity, TrajectoryWriter
from tabom_cli.core.decoding.scheduler import DecodeRequest, decode
from tabom_cli.core.distillation.background import in_background
from tabom_cli.core.distillation.config import DistillConfig
from tabom_cli.core.distillation.jobs import (
    Job,
    Shard,
    decode_hash,
    decode_warnings,
    make_jobs,
)
from tabom_cli.core.distillation.manifest import (
    manifest_path,
    refuse_other_settings,
    write_manifest,
)
from tabom_cli.core.distillation.meter import DistillReport, Meter
from tabom_cli.core.distillation.plan import shard_path
from tabom_cli.core.distillation.queue import OwnQueue, SharedQueue, WorkQueue, queue_path
from tabom_cli.core.distillation.rows import Answer, make_row, read_answer
from tabom_cli.core.distillation.shards import finish_file, refuse_other_rows, rows_elsewhere
from tabom_cli.core.errors import EnvironmentNotReady, UsageError
from tabom_cli.core.models.base import DiffusionLM
from tabom_cli.core.models.fingerprint import weights_hash
from tabom_cli.core.models.template import render_prompt, template_hash
from tabom_cli.core.models.template_batch import render_prompts
from tabom_cli.core.progress import ProgressCallback, ProgressEvent, silent

TASK = "distill"
NEAR_BUDGET = 16
"""Tokens below the budget from which a prompt may have been cut (decoding and encoding shift it)."""


MAX_CHECKS, MAX_UNCHECKED = 4, 16
"""Answers that are checked at a time (2 on few cores), and finished answers without a verdict."""


def distill(
    model: DiffusionLM,
    config: DistillConfig,
    *,
    output: Path,
    seed: int,
    rank: int = 0,
    world_size: int = 1,
    shard: Shard | None = None,
    barrier: Callable[[], None] | None = None,
    command: Sequence[str] = (),
    fsync: bool = False,
    progress: ProgressCallback = silent,
) -> DistillReport:
    """Answer every prompt, check the answers and append them to `output`, one row at a time.

    Rows that the file already holds are skipped, so that the same call resumes a killed one; the
    finished file is in prompt order and equal to that of an uninterrupted run, up to the floating
    point of the model. Several processes take jobs from one queue as they have room, longest prompts
    first, and write `<output>.rank<r>` each; rank 0 merges them.

    Args:
        model: Loaded, in evaluation mode.
        config: The distill section.
        output: Trajectory file.
        seed: Row seeds are functions of it, the prompt id and the sample index.
        rank: This process, 0 to `world_size` - 1.
        world_size: Processes that share the rows.
        shard: Make only this part of the rows; `output` then is the part's own file.
        barrier: Waits for all processes; needed when there are several.
        command: Command line, for the manifest.
        fsync: Bring every row to the disk at once.
        progress: Task "distill"; warnings and a bar with rows/s, tokens/s, forwards per token,
            accepted share and seconds left.

    Returns:
        Counts of the whole file (of this process's part on other ranks) and this process's rates.

    Raises:
        DataError: Prompts or an existing output cannot be read.
        RunError: The existing output was made otherwise, another process writes it, the disk is
            full, or rows are missing after all processes finished.
        EnvironmentNotReady: The answer check runs code and there is no sandbox.
        KeyboardInterrupt: Passed on; the file is valid and the same call goes on.
    """
    if world_size > 1 and barrier is None:
        raise UsageError("several processes need a barrier to merge their shards")
    prompts, prompt_report = load_prompts(config.prompts, need_references=config.need_references)
    _check_sandbox(config, prompts)
    identity = identity_of_run(model, config)
    all_jobs = make_jobs(prompts, num_samples=config.num_samples, seed=seed)
    jobs = shard.of(all_jobs) if shard else all_jobs
    if not jobs:
        raise UsageError(f"shard {shard.index if shard else 1} has no rows: {len(all_jobs)} in all")
    own_path = output if world_size == 1 else shard_path(output, rank)
    shared = SharedQueue(queue_path(output))
    queue: WorkQueue = OwnQueue() if world_size == 1 else shared
    wait = barrier or _no_barrier
    warn = progress if rank == 0 else silent
    for text in (*decode_warnings(config.decode), *prompt_report.warnings()):
        warn(ProgressEvent("warning", task=TASK, text=text))
    prompt_ids, num_cut = _render_all(model, config, prompts, warn)
    describe = partial(
        write_manifest,
        output,
        config=config,
        identity=identity,
        prompts=prompt_report,
        num_cut_prompts=num_cut,
        jobs=jobs,
        shard=shard,
        all_jobs=all_jobs,
        seed=seed,
        command=command,
    )
    with TrajectoryWriter(own_path, identity, fsync=fsync) as writer:
        if writer.repaired_bytes:
            text = f"{own_path}: cut off {writer.repaired_bytes} bytes of an unfinished last row"
            progress(ProgressEvent("warning", task=TASK, text=text))
        done = writer.seeds | rows_elsewhere(output, own_path, identity)
        refuse_other_rows(output, jobs, done)
        if done:
            refuse_other_settings(output, config)
        unfinished = any(job.id not in done for job in jobs) or not manifest_path(output).exists()
        if rank == 0 and unfinished:
            describe(status="running", results={})
        todo = [job for job in jobs if job.id not in done]
        if world_size > 1:
            todo.sort(key=lambda job: len(prompt_ids[job.prompt.id]), reverse=True)
            if rank == 0:
                shared.reset()
        wait()
        meter = Meter(num_total=len(jobs), num_done=len(jobs) - len(todo))
        if meter.num_done:
            text = f"{output}: {meter.num_done} of {len(jobs)} rows are already there"
            warn(ProgressEvent("message", task=TASK, text=text))
        waiting = (todo[number] for number in queue.take(len(todo)))
        with closing(_rows(model, config, waiting, prompt_ids, identity, world_size)) as rows:
            for row, answer in rows:
                writer.write(row)
                forwards = answer.result.num_forwards
                totals = queue.finish(str(row.verdict), tokens=answer.length, forwards=forwards)
                meter.add(totals)
                progress(meter.event(TASK))
    wait()
    if rank == 0:
        shared.remove()
        verdicts = finish_file(output, jobs, identity)
        report = meter.report(output, verdicts=verdicts, num_rows=verdicts.total())
        if unfinished:
            describe(status="complete", results=report.as_dict())
    else:
        report = meter.report(own_path, verdicts=meter.totals.verdicts, num_rows=meter.num_own)
    wait()
    return report


def identity_of_run(model: DiffusionLM, config: DistillConfig) -> Identity:
    """What the rows of this model and these settings have in common."""
    name = model.name if model.revision is None else f"{model.name}@{model.revision}"
    return Identity(
        model=name,
        adapter=model.adapter,
        decode_hash=decode_hash(config.decode),
        template_hash=template_hash(model.tokenizer),
        weights_hash=weights_hash(model.network),
    )


def _rows(
    model: DiffusionLM,
    config: DistillConfig,
    jobs: Iterable[Job],
    prompt_ids: Mapping[str, tuple[int, ...]],
    identity: Identity,
    world_size: int,
) -> Generator[tuple[Trajectory, Answer]]:
    """Checked rows with their answers, in the order in which the checks end; decoding goes on meanwhile."""
    running: dict[str, Job] = {}

    def requests() -> Iterator[DecodeRequest]:
        for job in jobs:
            running[job.id] = job
            yield DecodeRequest(job.id, prompt_ids[job.prompt.id], job.seed)

    def answers() -> Iterator[Answer]:
        # A job that waits in one process cannot be taken by another, and shared jobs come sorted by length.
        look_ahead = None if world_size == 1 else 1
        for result in decode(model, requests(), config.decode, look_ahead=look_ahead):
            job = running.pop(result.id)
            yield read_answer(model, job, prompt_ids[job.prompt.id], result)

    cores = (os.cpu_count() or 1) // world_size
    checked = in_background(
        answers(),
        partial(_verdict, config),
        num_threads=max(2, min(MAX_CHECKS, cores)),
        capacity=MAX_UNCHECKED,
    )
    for answer, verdict in checked:
        yield make_row(answer, verdict, config, identity), answer


def _verdict(config: DistillConfig, answer: Answer) -> Verdict:
    prompt = answer.job.prompt
    return verify(
        config.verifier,
        prompt=prompt.text,
        response=answer.text,
        reference=prompt.reference,
        task=prompt.task,
        ended=answer.ended,
    )


def _render_all(
    model: DiffusionLM,
    config: DistillConfig,
    prompts: Sequence[Prompt],
    warn: ProgressCallback,
) -> tuple[dict[str, tuple[int, ...]], int]:
    """Prompt ids by prompt id, and how many prompts had to be cut to the budget, with a warning."""
    limit = config.max_prompt_length
    texts = [prompt.text for prompt in prompts]
    rendered = render_prompts(model.tokenizer, texts, max_length=limit)
    cut = [
        prompt
        for prompt, ids in zip(prompts, rendered, strict=True)
        if len(ids) > limit - NEAR_BUDGET
        and ids != render_prompt(model.tokenizer, prompt.text, max_length=None)
    ]
    if cut:
        first = f"line {cut[0].line}" if cut[0].line else f"'{cut[0].id}'"
        text = (
            f"{len(cut)} of {len(prompts)} prompts are longer than max_prompt_length {limit} and "
            f"lost their end ({first} first): the model answers what is left"
        )
        warn(ProgressEvent("warning", task=TASK, text=text))
    found = {prompt.id: tuple(ids) for prompt, ids in zip(prompts, rendered, strict=True)}
    return found, len(cut)


def _check_sandbox(config: DistillConfig, prompts: Sequence[Prompt]) -> None:
    runs_code = config.verifier in ("code", "functions") or (
        config.verifier == "tasks" and any(prompt.task == "functions" for prompt in prompts)
    )
    reason = sandbox.why_unavailable() if runs_code else None
    if reason is not None:
        raise EnvironmentNotReady(
            f"verifier '{config.verifier}' runs the model's code, and there is no sandbox: {reason}",
            hint="use a machine that allows user namespaces, or leave the code prompts out",
        )


def _no_barrier() -> None:
    """One process has nobody to wait for."""
