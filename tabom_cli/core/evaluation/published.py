"""Which row of the paper a checkpoint reproduces, and how sure that is. Reads configs, never weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tabom_cli.core.evaluation.paper import Training
from tabom_cli.core.models.footprint import PUBLISHED, parameter_shapes
from tabom_cli.core.models.source import known_config

PUBLISHED_RECIPES = ("dream_prm12k", "dream_ling_coder", "llada_prm12k", "llada_ling_coder")
_TRAININGS: dict[str, Training] = {"prm12k": "math", "ling_coder": "code"}
_METHOD_OF_OBJECTIVE = {"tabom": "TABOM", "dinfer": "dInfer", "t3d": "T3D"}
_METHOD_OF_NELBO = {"sft_gt": "SFT-GT", "sft_sd": "SFT-SD"}

COPY_NOTE = "{base} is taken for {name} by its folder's name; weights were not compared"
RECIPE_NOTE = "recipe '{recipe}' is none of the published ones; its training may differ"
DATA_NOTE = "trained on {data}, not on the published file"


@dataclass(frozen=True)
class PaperRow:
    """What a checkpoint is compared with.

    Attributes:
        method: Row of the table.
        training: Which table.
        notes: What is not certain about the comparison.
    """

    method: str
    training: Training
    notes: tuple[str, ...] = ()

    def settings(self) -> dict[str, Any]:
        """What to record beside the score."""
        return {"paper": [self.method, self.training], "paper_notes": list(self.notes)}


def published_base(base: str) -> str | None:
    """Hub name of the published base that `base` is, None for any other model.

    A local copy is known by its folder's name, in the Hub's cache too, and by its shapes where its
    config is here. `_name_or_path` proves nothing: fine-tuned models inherit it.
    """
    path = Path(base).expanduser()
    folders = {path.name, path.resolve().name}
    if path.parent.name == "snapshots":
        folders.add(path.parent.parent.name)
    for name, published in PUBLISHED.items():
        own_names = {name.rpartition("/")[2].lower(), f"models--{name.replace('/', '--')}".lower()}
        if base == name:
            return name
        if own_names & {folder.lower() for folder in folders}:
            config = known_config(base)
            same = config is None or parameter_shapes(config) == parameter_shapes(published)
            return name if same else None
    return None


def published_row(
    base: str, *, recipe: str | None, data: str | None, objective: str
) -> PaperRow | None:
    """Which row of which table a checkpoint reproduces, None when the paper has none.

    Args:
        base: Name or folder of the base model.
        recipe: Recipe that trained the adapter; None for the base itself.
        data: Trajectory file of the recipe, whose name tells the training before the recipe's does.
        objective: The recipe's objective.

    Raises:
        ModelError: The base's config cannot be read.
    """
    name = published_base(base)
    if name is None:
        return None
    notes = [] if base == name else [COPY_NOTE.format(base=base, name=name)]
    if recipe is None:
        return PaperRow("No-SFT", "math", tuple(notes))
    of_data = _training(Path(data or "").name)
    training = of_data or _training(recipe)
    method = _METHOD_OF_OBJECTIVE.get(objective)
    if objective == "nelbo":
        method = next((found for part, found in _METHOD_OF_NELBO.items() if part in recipe), None)
    if not method or not training:
        return None
    if recipe not in PUBLISHED_RECIPES:
        notes.append(RECIPE_NOTE.format(recipe=recipe))
    if data and not of_data:
        notes.append(DATA_NOTE.format(data=data))
    return PaperRow(method, training, tuple(notes))


def _training(name: str) -> Training | None:
    return next((training for part, training in _TRAININGS.items() if part in name), None)
