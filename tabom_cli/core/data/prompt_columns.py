"""From the columns of one row to the text of a prompt and its reference. Knows no file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from tabom_cli.core import plugins
from tabom_cli.core.data.config import PromptsConfig
from tabom_cli.core.data.lines import Faults, kind_of

MAX_CHARACTERS = 100_000
_USER_ROLES = ("user", "human")
_NOT_UNICODE = "is no valid Unicode: it holds half of a surrogate pair"
_PLACE = re.compile(r"\{(\w+)\}")


def text_of(row: Mapping[str, Any], config: PromptsConfig, line: int, faults: Faults) -> str | None:
    """The user text of a row, or None after noting a fault.

    Args:
        row: Column values.
        config: Names the column or gives the template.
        line: Line or row number, for faults.
        faults: Receives what is wrong.
    """
    names = _PLACE.findall(config.template) if config.template else [config.prompt_column]
    missing = [name for name in names if name not in row]
    if missing:
        near = plugins.nearest(missing[0], list(row))
        faults.add(
            line,
            f"no column '{missing[0]}': the row has {', '.join(row) or 'none'}"
            + (f"; did you mean '{near}'?" if near else ""),
        )
        return None
    if config.template:
        values = {name: _as_text(row[name]) for name in names}
        text: Any = _PLACE.sub(lambda match: values[match.group(1)], config.template)
    else:
        text = row[config.prompt_column]
    if isinstance(text, list):
        text = _first_user_turn(text)
        if text is None:
            faults.add(line, f"'{config.prompt_column}' has no turn of a user")
            return None
    return _checked(text, names[0], line, faults)


def reference_of(
    row: Mapping[str, Any], config: PromptsConfig, line: int, faults: Faults
) -> str | None:
    """The reference of a row as the answer checks take it, None when there is none.

    A list of tests becomes the JSON that the `code` check reads, with the code of `setup_column`.

    Args:
        row: Column values.
        config: Names the columns.
        line: Line or row number, for faults.
        faults: Receives a reference that is no text, number, or list of tests.
    """
    column = config.reference_column
    value = row.get(column) if column else None
    if isinstance(value, str) and not is_unicode(value):
        faults.add(line, f"'{column}' {_NOT_UNICODE}")
        return None
    if value is None or isinstance(value, str):
        return value or None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        if not value:
            return None
        setup = row.get(config.setup_column) if config.setup_column else None
        tests = {"setup": setup if isinstance(setup, str) else "", "tests": value}
        return json.dumps(tests, sort_keys=True)
    faults.add(line, f"'{column}' is {kind_of(value)}: a text, a number or a list of tests")
    return None


def is_unicode(text: str) -> bool:
    """Whether text can be written as UTF-8: JSON may spell lone halves of surrogate pairs."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def in_range(row: Mapping[str, Any], config: PromptsConfig) -> bool:
    """Whether the row's number lies in `id_range`; every row does when there is none."""
    if config.id_range is None:
        return True
    number = row.get(str(config.id_column))
    return isinstance(number, int) and config.id_range[0] <= number <= config.id_range[1]


def _checked(text: Any, column: str, line: int, faults: Faults) -> str | None:
    if not isinstance(text, str):
        faults.add(line, f"'{column}' is {kind_of(text)}, not text")
    elif not text.strip():
        faults.add(line, f"'{column}' is empty")
    elif len(text) > MAX_CHARACTERS:
        faults.add(
            line, f"'{column}' is too long: {len(text)} characters, at most {MAX_CHARACTERS}"
        )
    elif not is_unicode(text):
        faults.add(line, f"'{column}' {_NOT_UNICODE}")
    else:
        return text
    return None


def _first_user_turn(turns: list[Any]) -> Any:
    for turn in turns:
        if isinstance(turn, dict) and str(turn.get("role", "")).lower() in _USER_ROLES:
            return turn.get("content")
    return None


def _as_text(value: Any) -> str:
    if isinstance(value, list):
        return "\n".join(str(item) for item in value)
    return str(value)
