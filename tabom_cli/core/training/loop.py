"""The training loop: global batches, one optimizer step each, on any number of processes.

Knows order, accumulation, clipping, logging and saving; does not know which objective runs, where rows
come from or how a model is saved (`job.save_model`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from tabom_cli.core.data.batch import TrainingRow
from tabom_cli.core.errors import Interrupted, RunError
from tabom_cli.core.objectives.base import LossTerms, PartialState, combine
from tabom_cli.core.progress import ProgressCallback, ProgressEvent, silent
from tabom_cli.core.rundir import JsonlWriter, append_jsonl, truncate_jsonl
from tabom_cli.core.training import checkpoint, optim, order
from tabom_cli.core.training.feed import Feed, Share
from tabom_cli.core.training.figures import accumulate, figures
from tabom_cli.core.training.job import TrainJob, TrainOutcome
from tabom_cli.core.training.module import TrainModule
from tabom_cli.core.training.stop import StopRequest

Log = JsonlWriter | None
"""A file of JSON lines on the main process, None on the others."""

VALIDATION_EPOCH = -1
"""Epoch number that keys the masks of validation rows, so that epochs can be compared."""


def train(
    job: TrainJob,
    accelerator: Accelerator,
    *,
    stop: StopRequest,
    resume_from: Path | None = None,
    progress: ProgressCallback = silent,
) -> TrainOutcome:
    """Run or continue a training job to its end.

    Args:
        job: What to train.
        accelerator: From `make_accelerator`.
        stop: Asked after every step; a reason saves a state and raises.
        resume_from: A `state/step_N` folder of the same run.
        progress: Receives one event per step.

    Raises:
        Interrupted: `stop` gave a reason; a resumable state was saved.
        RunError: The loss or the gradient is not finite, the disk is full, a state is damaged.
    """
    return _Loop(job, accelerator, stop, progress).run(resume_from)


class _Loop:
    """The state of one call of `train`."""

    def __init__(
        self, job: TrainJob, accelerator: Accelerator, stop: StopRequest, progress: ProgressCallback
    ) -> None:
        self.job, self.accelerator, self.stop, self.progress = job, accelerator, stop, progress
        self.plan = order.plan_steps(len(job.rows), job.config, accelerator.num_processes)
        module = TrainModule(job.model, job.objective)
        self.parameters = module.trainable()
        self.optimizer = optim.build_optimizer(module.parameters(), job.config)
        self.module = module.to(accelerator.device)
        self.wrapped = accelerator.prepare_model(self.module)
        self.metrics_lines, self._last_log = 0, 0.0
        self.feed = self._feed(job.rows)
        self.summary: dict[str, float] = {}

    def _feed(self, rows: Sequence[TrainingRow]) -> Feed:
        return Feed(
            objective=self.job.objective,
            rows=rows,
            response_length=self.job.response_length,
            pad_token_id=self.job.model.pad_token_id,
            mask_token_id=self.job.model.mask_token_id,
            seed=self.job.seed,
            global_batch_size=self.job.config.global_batch_size,
        )

    def run(self, resume_from: Path | None) -> TrainOutcome:
        """Train from a state or from the start."""
        start = 0
        if resume_from is not None:
            position = checkpoint.restore_state(
                resume_from,
                trainable=self.parameters,
                optimizer=self.optimizer,
                rank=self.accelerator.process_index,
            )
            start, self.metrics_lines = position.step, position.metrics_lines
        if self.accelerator.is_main_process:
            truncate_jsonl(self.job.run.metrics, self.metrics_lines)
        self._start_tracker()
        with self._log(self.job.run.metrics) as metrics, self._log(self.job.run.timings) as timings:
            self._last_log = time.perf_counter()
            for step, share in self.feed.steps(
                self.plan,
                rank=self.accelerator.process_index,
                start=start,
                workers=self.job.config.prepare_workers,
            ):
                self._step(step, share, metrics, timings)
                self._after_step(step + 1, metrics)
        self._save_model(self.job.run.final)
        # Not `end_training`: it takes the process group down, which is for the end of the process.
        for tracker in self.accelerator.trackers:
            tracker.finish()
        return TrainOutcome(self.job.run.final, self.plan.total_steps, self.summary)

    def _step(self, step: int, share: Share, metrics: Log, timings: Log) -> None:
        epoch = step // self.plan.steps_per_epoch
        batches = self._on_device(share)
        counts = self._global_counts(batches)
        rate = optim.learning_rate(step, self.job.config, self.plan.total_steps)
        optim.set_learning_rate(self.optimizer, rate)
        self.optimizer.zero_grad(set_to_none=True)
        self.wrapped.train()
        totals: dict[str, torch.Tensor] = {}
        for index, (state, weight) in enumerate(batches):
            last = index == len(batches) - 1
            with torch.enable_grad(), self._sync(last):
                terms = self._forward(state)
                loss = combine(terms.sums, counts, self.job.objective.weights) * weight
                self._check_loss(loss, state, step)
                # DDP averages gradients over processes; the loss is a sum over them.
                self.accelerator.backward(loss * self.accelerator.num_processes)
            accumulate(totals, terms, weight)
        norm = self.accelerator.clip_grad_norm_(
            list(self.parameters.values()), self.job.config.max_grad_norm
        )
        if not torch.isfinite(norm):
            names = ", ".join(name for state, _ in batches for name in state.sample_ids)
            raise RunError(
                f"step {step + 1}: the gradient is not finite (samples {names})", _NAN_HINT
            )
        self.optimizer.step()
        line = self._line(step, epoch, rate, float(norm), counts, totals)
        if (step + 1) % self.job.config.log_every == 0 and metrics and timings:
            metrics.write(line)
            now = time.perf_counter()
            seconds, self._last_log = now - self._last_log, now
            tokens = sum(state.input_ids.numel() for state, weight in batches if weight)
            tokens *= self.accelerator.num_processes * self.job.config.log_every
            timings.write({"step": step + 1, "time_s": seconds, "tokens_per_s": tokens / seconds})
        if (step + 1) % self.job.config.log_every == 0:
            self.metrics_lines += 1
        self._show(step + 1, line)

    def _log(self, path: Path) -> AbstractContextManager[JsonlWriter | None]:
        """A writer on the main process only: opening repairs the file's end."""
        return append_jsonl(path) if self.accelerator.is_main_process else nullcontext()

    def _on_device(self, share: Share) -> Share:
        return [(state.to(self.accelerator.device), weight) for state, weight in share]

    def _global_counts(self, batches: Sequence[tuple[PartialState, float]]) -> dict[str, float]:
        names = sorted(batches[0][0].counts)
        sums = [sum(state.counts[name] * weight for state, weight in batches) for name in names]
        vector = torch.tensor(sums, dtype=torch.float64, device=self.accelerator.device)
        return dict(zip(names, self._reduce(vector).tolist(), strict=True))

    def _forward(self, state: PartialState) -> LossTerms:
        with self.accelerator.autocast():
            return self.wrapped(state)

    def _sync(self, last: bool) -> Any:
        """Gradients are exchanged on the last micro-batch only."""
        return nullcontext() if last else self.accelerator.no_sync(self.wrapped)

    def _check_loss(self, loss: torch.Tensor, state: PartialState, step: int) -> None:
        if not torch.isfinite(loss):
            raise RunError(
                f"step {step + 1}: the loss is {float(loss.detach())} (samples {', '.join(state.sample_ids)})",
                _NAN_HINT,
            )

    def _line(
        self,
        step: int,
        epoch: int,
        rate: float,
        norm: float,
        counts: Mapping[str, float],
        totals: Mapping[str, torch.Tensor],
    ) -> dict[str, float]:
        values = self._reduced(totals)
        means = figures(values, counts, self.job.objective.weights)
        return {
            "step": step + 1,
            "epoch": epoch + 1,
            **means,
            "lr": rate,
            "grad_norm": norm,
            **{f"num_{name}": count for name, count in counts.items()},
        }

    def _reduced(self, totals: Mapping[str, torch.Tensor]) -> dict[str, float]:
        names = sorted(totals)
        vector = torch.stack([totals[name].double() for name in names])
        return dict(zip(names, self._reduce(vector).tolist(), strict=True))

    def _reduce(self, vector: torch.Tensor) -> torch.Tensor:
        if self.accelerator.num_processes == 1:
            return vector
        return self.accelerator.reduce(vector, reduction="sum")

    def _show(self, done: int, line: Mapping[str, float]) -> None:
        info: dict[str, float | str] = {"loss": line["loss"], "lr": line["lr"]}
        self.progress(
            ProgressEvent(task="train", done=done, total=self.plan.total_steps, info=info)
        )
        if self.job.config.tracker != "none":
            self.accelerator.log(dict(line), step=done)

    def _after_step(self, done: int, metrics: Log) -> None:
        epoch_end = done % self.plan.steps_per_epoch == 0 or done == self.plan.total_steps
        if epoch_end:
            self._end_epoch(done, metrics)
        every = self.job.config.save_every
        finished = done == self.plan.total_steps
        reason = self._stop_reason()
        if not finished and (reason or (done % every == 0 if every else epoch_end)):
            self._save_state(done)
        if reason and not finished:
            raise Interrupted(
                f"stopped by {reason} after step {done} of {self.plan.total_steps}",
                f"continue with --resume {self.job.run.path}",
            )

    def _end_epoch(self, done: int, metrics: Log) -> None:
        epoch = math.ceil(done / self.plan.steps_per_epoch)
        if self.job.validation_rows:
            line = {"step": done, "epoch": epoch, **self._validate()}
            self.metrics_lines += 1
            self.summary = {name: float(value) for name, value in line.items()}
            if metrics:
                metrics.write(line)
            text = ", ".join(f"{name} {value:.4g}" for name, value in line.items() if "/" in name)
            self.progress(ProgressEvent("message", text=f"epoch {epoch}: {text}"))
        self._save_model(self.job.run.epoch(epoch))

    def _validate(self) -> dict[str, float]:
        """Loss and metrics on the held-out rows, with the same masks in every epoch."""
        self.wrapped.eval()
        rows = self.job.validation_rows
        size, processes = self.plan.micro_batch_size, self.accelerator.num_processes
        chunks = [list(range(s, min(s + size, len(rows)))) for s in range(0, len(rows), size)]
        chunks += [[] for _ in range(-len(chunks) % processes)]
        mine = chunks[self.accelerator.process_index :: processes]
        feed = self._feed(rows)
        batches = self._on_device([feed.prepare(chunk, VALIDATION_EPOCH) for chunk in mine])
        counts = self._global_counts(batches)
        totals: dict[str, torch.Tensor] = {}
        with torch.no_grad():
            for state, weight in batches:
                with self.accelerator.autocast():
                    accumulate(totals, self.module(state), weight)
        values = figures(self._reduced(totals), counts, self.job.objective.weights)
        return {f"validation/{name}": value for name, value in values.items()}

    def _save_state(self, done: int) -> None:
        generators = gather_object([checkpoint.generator_state()])
        if self.accelerator.is_main_process:
            checkpoint.save_state(
                self.job.run,
                checkpoint.Position(done, self.metrics_lines),
                trainable=self.parameters,
                optimizer=self.optimizer.state_dict(),
                generators=generators,
            )
        self.accelerator.wait_for_everyone()

    def _save_model(self, target: Path) -> None:
        if self.accelerator.is_main_process:
            self.job.save_model(target)
        self.accelerator.wait_for_everyone()

    def _stop_reason(self) -> str | None:
        reason = self.stop.reason
        if self.accelerator.num_processes == 1:
            return reason
        flag = torch.tensor([1.0 if reason else 0.0], device=self.accelerator.device)
        asked = float(self.accelerator.reduce(flag, reduction="sum")) > 0
        return (reason or "another process") if asked else None

    def _start_tracker(self) -> None:
        if self.job.config.tracker != "none":
            self.accelerator.init_trackers(self.job.run_name)


_NAN_HINT = "lower train.learning_rate, or look at these rows with `tabom data inspect`"
