"""Decode settings per family, profile and task: one readable YAML file per family and profile.

`release` is what the published code ran, `paper` what the paper's appendix lists. Knows no model; a
test checks every value against the table they were taken from.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError

from tabom_cli.core.config import Section
from tabom_cli.core.decoding.config import DecodeConfig
from tabom_cli.core.errors import RecipeError, UsageError
from tabom_cli.core.plugins import nearest

Profile = Literal["release", "paper"]

DEFAULT_PROFILE: Profile = "release"
"""Taken for every task that it has when no profile is named."""

_LENGTHS = ("max_new_tokens", "steps", "block_length")
AROUND_DECODE = ("num_fewshot", "max_prompt_length", "answer_end")
"""Settings of a preset that are no decode settings and can be overridden too."""


class Preset(Section):
    """How one family answers one task under one profile."""

    family: str
    profile: Profile
    task: str
    decode: DecodeConfig
    num_fewshot: int = Field(0, ge=0)
    max_prompt_length: int = Field(1024, ge=1)
    answer_end: Literal["turn", "eos"] = "eos"
    note: str | None = None
    """What a reader of the score should know about the setting."""


def preset_files() -> list[str]:
    """The names `<family>_<profile>` of all preset files."""
    folder = resources.files(__name__)
    return sorted(item.name[:-5] for item in folder.iterdir() if item.name.endswith(".yaml"))


def load_presets(family: str, profile: str) -> dict[str, Preset]:
    """All presets of a family under a profile, by task.

    Raises:
        UsageError: No such family or profile; the message lists what exists.
        RecipeError: A preset file with wrong keys or values.
    """
    name, known = f"{family}_{profile}", preset_files()
    if name not in known:
        near = nearest(name, known)
        raise UsageError(
            f"no preset of family '{family}' and profile '{profile}': there are {', '.join(known)}",
            hint=f"did you mean {near}?" if near else None,
        )
    text = resources.files(__name__).joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    document = yaml.safe_load(text)
    common = document["common"]
    presets = {}
    for task, own in document["tasks"].items():
        merged = {**common, **own, "decode": {**common["decode"], **own["decode"]}}
        try:
            presets[task] = Preset(family=family, profile=document["profile"], task=task, **merged)
        except ValidationError as error:
            raise RecipeError(f"preset {name}, task {task}: {error}") from error
    return presets


def find_preset(family: str, profile: str, task: str) -> Preset | None:
    """The preset of a task, None when the profile does not know the task.

    Raises:
        UsageError: No such family or profile.
    """
    return load_presets(family, profile).get(task)


def families_of(task: str, profile: str) -> list[str]:
    """Families with a setting for a task under a profile."""
    files = (name.partition("_") for name in preset_files())
    families = [family for family, _, found in files if found == profile]
    return [family for family in families if find_preset(family, profile, task)]


def override(preset: Preset, changes: Mapping[str, Any]) -> tuple[Preset, dict[str, Any]]:
    """A preset with other settings, and what was overridden for the record.

    Args:
        preset: Where to start.
        changes: Decode settings by key, and any of `num_fewshot`, `max_prompt_length` and
            `answer_end`.

    Returns:
        The changed preset, and `{"<key>": {"preset": old, "used": new}}` of changes that can change
        an answer (the batch size cannot), where decode settings have keys `decode.<key>`.

    Raises:
        UsageError: An unknown key or a value out of range.
    """
    around = {key: changes[key] for key in AROUND_DECODE if key in changes}
    changes = {key: value for key, value in changes.items() if key not in around}
    before = preset.decode.model_dump()
    unknown = [key for key in changes if key not in before]
    if unknown:
        near = nearest(unknown[0], list(before))
        raise UsageError(
            f"unknown decode setting {', '.join(unknown)}",
            hint=f"did you mean {near}?" if near else f"there are {', '.join(before)}",
        )
    try:
        decode = DecodeConfig.model_validate({**before, **changes})
    except ValidationError as error:
        lengths = ", ".join(f"{key} {before[key]}" for key in _LENGTHS)
        several_keys = any(not item["loc"] for item in error.errors())
        raise UsageError(
            "\n".join(_fault(item) for item in error.errors()),
            hint=f"set what belongs together; the preset has {lengths}" if several_keys else None,
        ) from error
    record = {
        f"decode.{key}": {"preset": before[key], "used": value}
        for key, value in decode.model_dump().items()
        if value != before[key] and key != "batch_size"
    }
    for key, value in around.items():
        if value != getattr(preset, key):
            record[key] = {"preset": getattr(preset, key), "used": value}
    return preset.model_copy(update={"decode": decode, **around}), record


def _fault(item: Mapping[str, Any]) -> str:
    """One fault of a decode section; a fault of several keys at once names them itself."""
    place = ".".join(("decode", *map(str, item["loc"])))
    return f"{place}: {item['msg'].removeprefix('Value error, ')}"
