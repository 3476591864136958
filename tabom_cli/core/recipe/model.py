"""What a recipe is: the sections of all parts, side by side.

Knows which sections exist; their fields and defaults live in each part's own config.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import Field, InstanceOf

from tabom_cli.core import plugins
from tabom_cli.core.config import Section
from tabom_cli.core.data.config import DataConfig
from tabom_cli.core.diagnostics.config import TdsConfig
from tabom_cli.core.distillation.config import DistillConfig
from tabom_cli.core.evaluation.config import EvalConfig
from tabom_cli.core.models.config import LoraConfig, ModelConfig
from tabom_cli.core.training.config import TrainConfig

_SPEED_AND_PLACE = (
    "launch",
    "save_every",
    "log_every",
    "tracker",
    "output_dir",
    "micro_batch_size",
    "prepare_workers",
)
"""Training settings that do not change the trained weights."""


class ObjectiveSection(Section):
    """The chosen objective and its own settings."""

    name: str
    """Objective: a file name under core/objectives."""
    settings: InstanceOf[Section]
    """The objective's own `Config`."""


class Recipe(Section):
    """Everything that a run needs."""

    name: str
    """Recipe name; runs go to checkpoints/<name>."""
    description: str = ""
    """One line for `tabom recipes list`."""
    seed: int = Field(42, ge=0)
    """Seed of everything random, together with epoch and sample id."""
    model: ModelConfig
    """The base model."""
    lora: LoraConfig | None = Field(default_factory=LoraConfig)
    """The adapter; null trains all weights."""
    data: DataConfig
    """The trajectories that training reads."""
    distill: DistillConfig | None = None
    """How the trajectories are made."""
    objective: ObjectiveSection
    """What is optimised."""
    train: TrainConfig = Field(default_factory=TrainConfig)
    """How it is optimised."""
    eval: EvalConfig = Field(default_factory=EvalConfig)
    """How it is scored."""
    tds: TdsConfig = Field(default_factory=TdsConfig)
    """How the Trajectory Discrimination Score is measured."""

    def to_dict(self) -> dict[str, Any]:
        """The resolved recipe as plain values; written as YAML it is runnable again."""
        values = self.model_dump(mode="json", exclude={"objective"})
        objective = {"name": self.objective.name, **self.objective.settings.model_dump(mode="json")}
        keys = list(type(self).model_fields)
        return {key: objective if key == "objective" else values[key] for key in keys}

    def training_hash(self) -> str:
        """Hash of what decides the trained weights; runs with equal hashes may resume each other."""
        values = self.to_dict()
        train = dict(values["train"])
        for key in _SPEED_AND_PLACE:
            train.pop(key)
        if values["objective"].get("parity") == "release":
            # Released losses are means over a micro-batch, so its size is part of the result.
            train["micro_batch_size"] = values["train"]["micro_batch_size"]
        relevant = {
            key: values[key] for key in ("name", "seed", "model", "lora", "data", "objective")
        }
        text = json.dumps({**relevant, "train": train}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def objective_config(name: str) -> type[Section]:
    """The settings class of an objective.

    Raises:
        RecipeError: No such objective.
    """
    return plugins.load("objective", name).OBJECTIVE.Config


def recipe_schema() -> dict[str, Any]:
    """JSON schema of recipe files, with one variant of `objective` per installed objective."""
    schema = Recipe.model_json_schema()
    schema["title"] = "tabom recipe"
    variants = []
    for name in plugins.names("objective"):
        settings = objective_config(name).model_json_schema()
        schema["$defs"].update(settings.pop("$defs", {}))
        settings["properties"] = {"name": {"const": name}, **settings.get("properties", {})}
        settings["required"] = ["name", *settings.get("required", [])]
        settings["title"] = f"objective {name}"
        variants.append(settings)
    schema["$defs"].pop("ObjectiveSection", None)
    schema["properties"]["objective"] = {"oneOf": variants, "description": "What is optimised."}
    return schema
