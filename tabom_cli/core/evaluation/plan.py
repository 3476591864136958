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
from tabom_cli.core.evaluation.presets import find_preset, load_presets, override
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
        profile: Preset that was taken, None for the recipe's own settings.
        overridden: What departs from the preset, `{"decode.<key>": {"preset": ..., "used": ...}}`.
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


def plan_tasks(
    specs: Sequence[TaskSpec],
    config: EvalConfig,
    *,
    family: str | None,
    overrides: Mapping[str, Any] | None = None,
) -> list[TaskPlan]:
    """A plan for every task: from the profile that `config` names, else from `config` itself.

    Args:
        specs: The tasks.
        config: The recipe's evaluation section.
        family: Family of the model, which picks the preset file; None when it is not known.
        overrides: Settings from the command line, laid over the preset (see `presets.override`).

    Raises:
        UsageError: The profile does not exist or has no setting for a task; several samples without
            randomness; a wrong override.
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
    if config.profile is None:
        return TaskPlan(
            spec=spec,
            decode=config.decode,
            num_fewshot=config.num_fewshot,
            num_samples=config.num_samples,
            max_prompt_length=config.max_prompt_length,
            answer_end=config.answer_end,
        )
    if family is None:
        raise UsageError(
            f"profile '{config.profile}' has settings per model family, and the family of this "
            "checkpoint is not known here",
            hint="give a local folder, or fetch the checkpoint's config.json first",
        )
    preset = find_preset(family, config.profile, spec.name)
    if preset is None:
        known = ", ".join(load_presets(family, config.profile))
        raise UsageError(
            f"profile '{config.profile}' of family '{family}' has no setting for task "
            f"'{spec.name}', only for {known}",
            hint="without a profile the recipe's eval.decode is used",
        )
    changed, record = override(preset, overrides)
    return TaskPlan(
        spec=spec,
        decode=changed.decode,
        num_fewshot=changed.num_fewshot,
        num_samples=config.num_samples,
        max_prompt_length=changed.max_prompt_length,
        answer_end=changed.answer_end,
        profile=config.profile,
        overridden=record,
        note=changed.note,
    )
