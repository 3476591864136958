"""Resumable states: what a run needs to go on as if it had never stopped.

Knows trainable tensors, optimizer and generators; does not know the objective or where rows come from.
Saved models (`epoch_k/`, `final/`) are written by `tabom_cli.core.models`.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tabom_cli.core.errors import RunError
from tabom_cli.core.rundir import RunDir, atomic_folder, write_text_atomic

STATES_KEPT = 2


@dataclass(frozen=True)
class Position:
    """Where a run stands.

    Attributes:
        step: Optimizer steps done.
        metrics_lines: Lines of metrics.jsonl that belong to those steps.
    """

    step: int
    metrics_lines: int


def save_state(
    run: RunDir,
    position: Position,
    *,
    trainable: Mapping[str, Tensor],
    optimizer: Mapping[str, Any],
    generators: list[dict[str, Any]],
) -> Path:
    """Write `state/step_N` in one piece and delete all but the newest states.

    Args:
        run: The run folder.
        position: Where the run stands.
        trainable: Trainable parameters by name.
        optimizer: The optimizer's state dict.
        generators: `generator_state()` of every process, in rank order.
    """
    target = run.state(position.step)
    with atomic_folder(target, on_existing="replace") as folder:
        tensors = {name: value.detach().cpu().contiguous() for name, value in trainable.items()}
        save_file(tensors, folder / "trainable.safetensors")
        torch.save(dict(optimizer), folder / "optimizer.pt")
        torch.save(generators, folder / "generators.pt")
        write_text_atomic(folder / "position.json", json.dumps(asdict(position)))
    for old in run.states()[:-STATES_KEPT]:
        shutil.rmtree(old)
    return target


def load_position(state: Path) -> Position:
    """Where a saved state stands.

    Raises:
        RunError: The state is incomplete or unreadable.
    """
    try:
        return Position(**json.loads((state / "position.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise _broken(state, "position.json", error) from error


def restore_state(
    state: Path, *, trainable: Mapping[str, Tensor], optimizer: torch.optim.Optimizer, rank: int
) -> Position:
    """Copy a saved state into the trainable tensors, the optimizer and this process's generators.

    Raises:
        RunError: A file is missing or damaged, or the state is of another model.
    """
    position = load_position(state)
    try:
        saved = load_file(state / "trainable.safetensors")
    except Exception as error:
        raise _broken(state, "trainable.safetensors", error) from error
    wrong = [
        name
        for name in sorted(set(saved) | set(trainable))
        if name not in saved or name not in trainable or saved[name].shape != trainable[name].shape
    ]
    if wrong:
        raise RunError(
            f"{state}/trainable.safetensors does not fit this model: {len(wrong)} tensors differ, "
            f"the first is {wrong[0]}",
            hint="resume with the recipe that started the run",
        )
    with torch.no_grad():
        for name, value in saved.items():
            trainable[name].copy_(value)
    optimizer.load_state_dict(_load(state, "optimizer.pt"))
    generators = _load(state, "generators.pt")
    if rank < len(generators):
        restore_generators(generators[rank])
    return position


def generator_state() -> dict[str, Any]:
    """The state of this process's global generators, which dropout draws from."""
    version, numbers, gauss = random.getstate()
    state: dict[str, Any] = {
        "python": (version, list(numbers), gauss),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def restore_generators(state: Mapping[str, Any]) -> None:
    """Set this process's global generators."""
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def _load(state: Path, name: str) -> Any:
    try:
        return torch.load(state / name, weights_only=True, map_location="cpu")
    except Exception as error:
        raise _broken(state, name, error) from error


def _broken(state: Path, name: str, error: Exception) -> RunError:
    others = [path.name for path in RunDir(state.parent.parent).states() if path != state]
    hint = f"resume from an older state: --resume {state.parent / others[-1]}" if others else None
    return RunError(f"{state / name} cannot be read: {error}", hint)
