"""What will be asked, how and into which files: tasks joined with a preset or the recipe's settings.

Knows no model beyond its family's name, and does nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tabom_cli.core.decoding.config import DecodeConfig
from tabom_cli.core.errors import UsageError
from tabom_cli.core.evaluation.config import EvalConfig
from tabom_cli.core.evaluation.presets import (
    AROUND_DECODE,
    DEFAULT_PROFILE,
    Preset,
    families_of,
    find_preset,
    load_presets,
    override,
)
from tabom_cli.core.evaluation.tasks.base import TaskSpec


@dataclass(frozen=True)
class TaskPlan:
    """One task with everything that its answers depend on besides the model.

    Attributes:
        spec: The task.
        decode: How answers are decoded.
        num_fewshot: Examples in the prompt.
        num_samples: Answers per problem.
        max_prompt_length: Prompt budget in tokens.
        answer_end: Where answers end.
        profile: Profile of the preset that was taken, None for the recipe's own settings.
        overridden: What departs from the preset, `{"decode.<key>": {"preset": ..., "used": ...}}`.
        overruled: What the recipe sets and the preset decides otherwise, such as
            `{"decode.steps": 8}`.
        note: The preset's note.
    """

    spec: TaskSpec
    decode: DecodeConfig
    num_fewshot: int
    num_samples: int
    max_prompt_length: int
    answer_end: Literal["turn", "eos"]
    profile: str | None = None
    overridden: Mapping[str, Any] = field(default_factory=dict)
    overruled: Mapping[str, Any] = field(default_factory=dict)
    note: str | None = None

    def requests_path(self, folder: Path) -> Path:
        """The task's requests file; tasks under a preset may differ in shots and have their own."""
        return folder / (f"requests_{self.spec.name}.jsonl" if self.profile else "requests.jsonl")

    def completions_path(self, folder: Path) -> Path:
        """The task's completions file; answers of two settings never share one."""
        name = f"completions_{self.spec.name}.jsonl" if self.profile else "completions.jsonl"
        return folder / name

    def settings(self) -> dict[str, Any]:
        """What to record beside the score."""
        return {"profile": self.profile, "overridden": dict(self.overridden), "note": self.note}

    def origin(self) -> str:
        """Where the settings come from, for a person."""
        return f"profile '{self.profile}'" if self.profile else "the recipe's eval.decode"

    def overruled_text(self) -> str | None:
        """What the recipe sets in vain, None when nothing."""
        if not self.overruled:
            return None
        keys = ", ".join(f"{key} {value}" for key, value in self.overruled.items())
        return f"not used of the recipe: {keys} (to use it: --profile none, or --set)"


def plan_tasks(
    specs: Sequence[TaskSpec],
    config: EvalConfig,
    *,
    family: str | None,
    overrides: Mapping[str, Any] | None = None,
) -> list[TaskPlan]:
    """A plan for every task: from a preset where there is one, else from `config` itself.

    Without a profile in `config` that is the release's preset; `none` takes no preset.

    Args:
        specs: The tasks.
        config: The recipe's evaluation section.
        family: Family of the model, which picks the preset file; None when it is not known.
        overrides: Settings from the command line, laid over the preset (see `presets.override`).

    Raises:
        UsageError: The named profile has no setting for a task; a task has presets and the family is
            not known; several samples without randomness; a wrong override.
    """
    plans = [_plan(spec, config, family, overrides or {}) for spec in specs]
    for plan in plans:
        if plan.num_samples > 1 and not _is_random(plan.decode):
            raise UsageError(
                f"{plan.spec.name}: {plan.num_samples} samples per problem would all be equal",
                hint="set decode.temperature above 0 and decode.token_pick: sample",
            )
    return plans


def _is_random(decode: DecodeConfig) -> bool:
    draws_tokens = decode.temperature > 0 and decode.token_pick == "sample"
    return draws_tokens or decode.alg_temp is not None or decode.strategy in ("origin", "random")


def _plan(
    spec: TaskSpec, config: EvalConfig, family: str | None, overrides: Mapping[str, Any]
) -> TaskPlan:
    preset = _preset(spec.name, config.profile, family)
    if preset is None:
        return TaskPlan(
            spec=spec,
            decode=config.decode,
            num_fewshot=config.num_fewshot,
            num_samples=config.num_samples,
            max_prompt_length=config.max_prompt_length,
            answer_end=config.answer_end,
        )
    changes = {**overrides, "batch_size": config.decode.batch_size}
    changed, record = override(preset, changes)
    return TaskPlan(
        spec=spec,
        decode=changed.decode,
        num_fewshot=changed.num_fewshot,
        num_samples=config.num_samples,
        max_prompt_length=changed.max_prompt_length,
        answer_end=changed.answer_end,
        profile=preset.profile,
        overridden=record,
        overruled=_overruled(config, changed),
        note=changed.note,
    )


def _preset(task: str, profile: str | None, family: str | None) -> Preset | None:
    """The preset of a task; None when the recipe's settings hold."""
    if profile == "none":
        return None
    families = families_of(task, profile or DEFAULT_PROFILE)
    if family is None and (profile or families):
        raise UsageError(
            f"{task} has settings per model family, and the family of this checkpoint is not known "
            "here",
            hint="give a local folder, or fetch the checkpoint's config.json first; "
            "--profile none takes the recipe's eval.decode",
        )
    if family in families:
        return find_preset(family, profile or DEFAULT_PROFILE, task)
    if profile is None or family is None:
        return None
    known = ", ".join(load_presets(family, profile))
    raise UsageError(
        f"profile '{profile}' of family '{family}' has no setting for task '{task}', "
        f"only for {known}",
        hint="without --profile such a task takes the recipe's eval.decode",
    )


def _overruled(config: EvalConfig, used: Preset) -> dict[str, Any]:
    """What the recipe sets in so many words, and what is done otherwise."""
    sections = (
        ("decode.", config.decode, used.decode, list(type(config.decode).model_fields)),
        ("", config, used, AROUND_DECODE),
    )
    return {
        prefix + key: getattr(recipe, key)
        for prefix, recipe, preset, keys in sections
        for key in keys
        if key in recipe.model_fields_set and getattr(recipe, key) != getattr(preset, key)
    }
