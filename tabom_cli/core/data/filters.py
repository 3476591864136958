"""The alias forms of the original release's rows, and which rows a run trains on.

Source: the loader of the original release. Knows single rows; does not read files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from tabom_cli.core.data.lines import kind_of

MethodFilter = Literal["all", "default", "entropy"]

_ALIASES = {
    "prompt": ("response", "output"),
    "instruction": ("output", "response"),
    "question": ("gen_text", "answer", "output", "response"),
}
_ALIAS_ORDER = ("prompt", "instruction", "messages", "question")
_COPIED = ("response_token_ids", "decoding_order", "decoding_entropy", "prompt_token_ids")
_OPTIONAL = ("reference", "verdict", "reward", "template_hash")


class RowFault(ValueError):
    """A row that cannot be understood; the text is shown behind file and line."""


def from_alias_row(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """The known columns of a row of the original release, under our names.

    The first of `prompt`, `instruction`, `messages`, `question` that is present decides the form,
    even when its value is null. Empty text falls through to the form's next answer column.

    Args:
        row: One JSON object without `schema_version`.

    Returns:
        Keys of `Trajectory` less those that must be made up (`id`, `group_id` when the row has
        none); `response` is "" when there is none. None when the row has no prompt, which the
        release drops.

    Raises:
        RowFault: A prompt or answer that is not text.
    """
    form = next((key for key in _ALIAS_ORDER if key in row), None)
    if form is None:
        return None
    if form == "messages":
        prompt, response = _from_messages(row["messages"])
    else:
        prompt = _text(row[form], form)
        answers = _ALIASES[form]
        response = next((text for key in answers if (text := _text(row.get(key), key))), "")
    if not prompt.strip():
        return None
    values: dict[str, Any] = {"prompt": prompt, "response": response}
    values |= {key: row[key] for key in (*_COPIED, *_OPTIONAL) if row.get(key) is not None}
    values["non_ltr_positions"] = _or_empty(row.get("non_ltr_positions"))
    values["method"] = row.get("method")
    values["data_source"] = _source(row.get("data_source"))
    for key in ("id", "group_id"):
        if isinstance(row.get(key), str | int) and not isinstance(row.get(key), bool):
            values[key] = str(row[key])
    return values


def resolve_method_filter(configured: MethodFilter | None, *, objective: str) -> MethodFilter:
    """The filter that a null setting stands for: `entropy` for tabom, `all` for everything else."""
    if configured is not None:
        return configured
    return "entropy" if objective == "tabom" else "all"


def keeps_method(method: str | None, method_filter: MethodFilter, *, family: str | None) -> bool:
    """Whether a row of this decoder passes the filter.

    Args:
        method: The row's `method`; a row without one passes only `all`.
        method_filter: `entropy` also keeps `default` and `credit` when the student is LLaDA.
        family: Model family of the student.
    """
    if method_filter == "all":
        return True
    if method_filter == "entropy" and family == "llada":
        return method in ("entropy", "default", "credit")
    return method == method_filter


def _from_messages(messages: Any) -> tuple[str, str]:
    if messages is None:
        return "", ""
    if not isinstance(messages, list) or not all(isinstance(turn, dict) for turn in messages):
        raise RowFault("'messages' is not a list of objects with role and content")
    texts = {}
    for role in ("user", "assistant"):
        turns = [turn.get("content") for turn in messages if turn.get("role") == role]
        texts[role] = _text(turns[0], f"messages.{role}.content") if turns else ""
    return texts["user"], texts["assistant"]


def _text(value: Any, key: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise RowFault(f"'{key}' is {kind_of(value)}, not text")
    return value


def _source(value: Any) -> str | None:
    return value.strip() or None if isinstance(value, str) else None


def _or_empty(value: Any) -> Any:
    return [] if value is None else value
