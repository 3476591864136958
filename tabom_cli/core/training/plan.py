"""What a training run would do, for dry runs: rows, steps, tokens, memory, files. Loads no weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tabom_cli.core import plugins
from tabom_cli.core.data.admission import LoadReport
from tabom_cli.core.data.mixture import read_mixture
from tabom_cli.core.errors import DataError
from tabom_cli.core.models import footprint
from tabom_cli.core.models.source import known_config
from tabom_cli.core.training import memory
from tabom_cli.core.training.order import StepPlan, plan_steps, split_validation
from tabom_cli.core.training.setup import TrainSections

_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class TrainPlan:
    """The facts of a run that has not started.

    Attributes:
        steps: Steps and batches; None when the data cannot be read.
        num_rows: Rows that pass the filters.
        num_validation: Held-out rows among them.
        report: Left-out rows by reason, and what is wrong with the others.
        max_tokens: Upper bound of input tokens over the whole run (prompt budget + response length).
        num_parameters: Parameters of the base, None when its config is not at hand.
        num_trainable: Parameters that are trained, None likewise.
        memory: Bytes per GPU, None likewise.
        files: What would be written inside the run folder.
        data_fault: Why the data could not be read, with the hint.
    """

    steps: StepPlan | None
    num_rows: int
    num_validation: int
    report: LoadReport
    max_tokens: int
    num_parameters: int | None
    num_trainable: int | None
    memory: memory.MemoryEstimate | None
    files: tuple[str, ...]
    data_fault: DataError | None

    def facts(self, global_batch_size: int) -> list[tuple[str, str]]:
        """(what, value) lines for a person, in the order in which they matter."""
        lines = self._data_facts(global_batch_size) if self.steps else self._fault_facts()
        if self.num_parameters is None:
            lines.append(("parameters", "unknown: the base model's config is not at hand"))
        else:
            trained = f"{self.num_trainable:,} trained"
            lines.append(("parameters", f"{self.num_parameters:,}, {trained}"))
        if self.memory:
            lines.append(("memory per process", self.memory.describe()))
        return lines + [("would write", name) for name in self.files]

    def _data_facts(self, global_batch_size: int) -> list[tuple[str, str]]:
        steps = self.steps
        assert steps is not None
        dropped = ", ".join(f"{count} {reason}" for reason, count in self.report.dropped.items())
        return [
            ("training rows", f"{steps.num_rows:,} (and {self.num_validation:,} held out)"),
            ("rows left out", dropped or "none"),
            *(("warning", text) for text in self.report.warnings()),
            ("optimizer steps", f"{steps.total_steps:,} ({steps.steps_per_epoch:,} per epoch)"),
            (
                "global batch",
                f"{global_batch_size} = {steps.world_size} processes x {steps.micro_batch_size} rows x "
                f"{steps.accumulation} accumulated; the same optimisation on any number of GPUs",
            ),
            ("tokens", f"at most {self.max_tokens:,}"),
        ]

    def _fault_facts(self) -> list[tuple[str, str]]:
        fault = self.data_fault
        lines = [("data", f"not usable: {fault.message if fault else 'no rows'}")]
        return [*lines, ("", fault.hint)] if fault and fault.hint else lines


def plan_training(sections: TrainSections, *, world_size: int) -> TrainPlan:
    """Read the data and the base's config and work out what training would do."""
    config = known_config(sections.model.path, revision=sections.model.revision)
    groups, report, fault = _groups(sections, config)
    kept, held_out = split_validation(
        groups, sections.train.validation_fraction, seed=sections.seed
    )
    steps = plan_steps(len(kept), sections.train, world_size) if kept else None
    length = sections.data.max_prompt_length + sections.data.response_length
    rows_seen = 0
    if steps:
        full_epochs, rest = divmod(steps.total_steps, steps.steps_per_epoch)
        rows_seen = full_epochs * len(kept) + rest * sections.train.global_batch_size
    total, trainable = _parameters(sections, config)
    return TrainPlan(
        steps=steps,
        num_rows=len(groups),
        num_validation=len(held_out),
        report=report,
        max_tokens=rows_seen * length,
        num_parameters=total,
        num_trainable=trainable,
        memory=estimate_memory(sections, config, world_size) if config else None,
        files=_files(sections, steps),
        data_fault=fault,
    )


def estimate_memory(
    sections: TrainSections, config: Mapping[str, Any], world_size: int
) -> memory.MemoryEstimate:
    """Bytes on each GPU for the largest micro-batch."""
    steps = plan_steps(sections.train.global_batch_size, sections.train, world_size)
    length = sections.data.max_prompt_length + sections.data.response_length
    total, trainable = _parameters(sections, config)
    window = getattr(sections.settings, "supervision_window", sections.data.response_length)
    supervised = min(window, sections.data.response_length) * steps.micro_batch_size
    return memory.estimate(
        num_parameters=total or 0,
        num_trainable=trainable or 0,
        parameter_bytes=_BYTES[sections.model.dtype],
        compute_bytes=2 if sections.train.precision == "bf16" else 4,
        full=sections.lora is None,
        hidden_size=config.get("hidden_size") or config["d_model"],
        intermediate_size=footprint.mlp_size(config),
        num_layers=config.get("num_hidden_layers") or config["n_layers"],
        vocab_size=config.get("embedding_size") or config["vocab_size"],
        tokens=steps.micro_batch_size * length,
        supervised=supervised,
        checkpointing=sections.train.gradient_checkpointing,
    )


def _groups(
    sections: TrainSections, config: Mapping[str, Any] | None
) -> tuple[list[str], LoadReport, DataError | None]:
    """Group id of every row that would be trained on, what is left out, and a fault of the file."""
    data = sections.data
    if data.generate is not None:
        count = min(data.generate.num_problems, data.max_rows or data.generate.num_problems)
        return [f"generated {index}" for index in range(count)], LoadReport("generated"), None
    family = footprint.family_of(config) if config else None
    needs_order = plugins.load("objective", sections.objective).OBJECTIVE.needs_order
    try:
        rows, report = read_mixture(
            data,
            objective=sections.objective,
            family=family,
            needs_order=needs_order,
            vocab_size=config.get("vocab_size") if config else None,
            recipe=sections.name,
        )
    except DataError as error:
        return [], LoadReport("unread"), error
    return [row.group_id for row in rows], report, None


def _parameters(
    sections: TrainSections, config: Mapping[str, Any] | None
) -> tuple[int | None, int | None]:
    if config is None:
        return None, None
    total = footprint.parameter_count(config)
    if sections.lora is None:
        return total, total
    adapter = footprint.adapter_count(
        config, rank=sections.lora.rank, target_modules=sections.lora.target_modules
    )
    return total, adapter


def _files(sections: TrainSections, steps: StepPlan | None) -> tuple[str, ...]:
    folder = Path(sections.train.output_dir) / sections.name / "train_<timestamp>"
    last = -(-steps.total_steps // steps.steps_per_epoch) if steps else sections.train.epochs
    epochs = "epoch_1/" if last == 1 else f"epoch_1/ ... epoch_{last}/"
    names = ("recipe.resolved.yaml", "manifest.json", "metrics.jsonl", "timings.jsonl")
    return tuple(str(folder / name) for name in (*names, "state/step_N/", epochs, "final/"))
