"""One training run from sections to its final model, in this process, which may be one of several.

Knows the run folder, its records and what an exhausted GPU means to a user; the steps are in `loop`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from tabom_cli.core.errors import RunError
from tabom_cli.core.progress import ProgressCallback
from tabom_cli.core.rundir import (
    RunDir,
    exclusive_lock,
    new_run_dir,
    write_json_atomic,
    write_text_atomic,
)
from tabom_cli.core.training import loop, setup
from tabom_cli.core.training.job import TrainJob, TrainOutcome, make_accelerator
from tabom_cli.core.training.plan import estimate_memory
from tabom_cli.core.training.resume import Resume
from tabom_cli.core.training.setup import TrainSections
from tabom_cli.core.training.stop import StopRequest


@dataclass(frozen=True)
class Records:
    """What a run folder and every saved model keep besides weights.

    Attributes:
        recipe_yaml: The resolved recipe, itself runnable.
        manifest: Versions, seed, command line, recipe hash.
    """

    recipe_yaml: str
    manifest: Mapping[str, Any]


def run_training(
    sections: TrainSections,
    records: Records,
    *,
    chosen: Resume | None,
    stop: StopRequest,
    progress: ProgressCallback,
) -> TrainOutcome:
    """Train, or continue `chosen`, to the end.

    Args:
        sections: What to train.
        records: Written once, when the run starts.
        chosen: The run to continue, None for a new one.
        stop: Asked after every step.
        progress: Told about loading and every step.

    Raises:
        RunError: Out of GPU memory, a loss that is not finite, a full disk, another process in the
            same run.
        Interrupted: `stop` gave a reason; a resumable state was saved.
    """
    set_deterministic(sections.train.deterministic)
    accelerator = make_accelerator(sections.train)
    run = _run_dir(sections, chosen, accelerator)
    with exclusive_lock(run.lock) if accelerator.is_main_process else nullcontext():
        if accelerator.is_main_process and not run.manifest.exists():
            write_text_atomic(run.recipe, records.recipe_yaml)
            write_json_atomic(run.manifest, records.manifest)
        torch.manual_seed(sections.seed)
        job = setup.build_job(
            sections,
            run,
            # Several CPU processes are `cpu:0` to accelerate, which safetensors refuses.
            device="cpu" if accelerator.device.type == "cpu" else str(accelerator.device),
            write_extras=lambda folder: _copy_records(run, folder),
            progress=progress,
        )
        try:
            state = chosen.state if chosen else None
            return loop.train(job, accelerator, stop=stop, resume_from=state, progress=progress)
        except torch.OutOfMemoryError as error:
            raise _out_of_memory(sections, job, accelerator, error) from error


def set_deterministic(wanted: bool) -> None:
    """Make PyTorch's kernels repeatable: strict, with flash attention and without cuDNN's."""
    if not wanted:
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cuda.enable_cudnn_sdp(False)


def _run_dir(sections: TrainSections, chosen: Resume | None, accelerator: Accelerator) -> RunDir:
    """The run folder, made by the main process and told to the others."""
    shared = [str(chosen.run.path) if chosen else ""]
    if accelerator.is_main_process and not chosen:
        shared = [str(new_run_dir(sections.train.output_dir, sections.name).path)]
    broadcast_object_list(shared)
    return RunDir(Path(shared[0]))


def _copy_records(run: RunDir, folder: Path) -> None:
    for source in (run.recipe, run.manifest):
        (folder / source.name).write_bytes(source.read_bytes())


def _out_of_memory(
    sections: TrainSections, job: TrainJob, accelerator: Accelerator, error: Exception
) -> RunError:
    config = job.model.network.config.to_dict()  # type: ignore[union-attr,operator]
    estimated = estimate_memory(sections, config, accelerator.num_processes).total
    return RunError(
        f"out of GPU memory; the estimate for this recipe is {estimated / 2**30:.1f} GiB per GPU "
        f"({str(error).splitlines()[0]})",
        hint="lower train.micro_batch_size (the optimisation stays the same), set "
        "train.gradient_checkpointing=true, or shorten data.response_length and "
        "data.max_prompt_length",
    )
