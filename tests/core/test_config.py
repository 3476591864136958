"""Sections are frozen, strict and self-documenting, and their modules stay free of torch."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import Field, ValidationError

from tabom_cli.core.config import FloatPair, Section, StringTuple


class Example(Section):
    """A section."""

    count: int = Field(1, ge=1)
    """How many."""
    names: StringTuple = ()
    """Which."""
    pair: FloatPair = (0.0, 1.0)
    """Between."""


def test_a_section_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Example().count = 2  # type: ignore[misc]


def test_lists_become_tuples_and_nothing_else_is_converted() -> None:
    example = Example.model_validate({"names": ["a", "b"], "pair": [1, 2.5]})
    assert example == Example(names=("a", "b"), pair=(1.0, 2.5))
    assert hash(example) == hash(Example(names=("a", "b"), pair=(1.0, 2.5)))
    for values in ({"count": "2"}, {"count": 2.0}, {"count": True}, {"names": "ab"}, {"pair": [1]}):
        with pytest.raises(ValidationError):
            Example.model_validate(values)


def test_unknown_keys_and_infinite_numbers_are_refused() -> None:
    with pytest.raises(ValidationError, match="extra_forbidden"):
        Example.model_validate({"cuont": 2})
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValidationError, match="finite"):
            Example.model_validate({"pair": [0.0, value]})


def test_the_text_under_a_field_is_its_description() -> None:
    properties = Example.model_json_schema()["properties"]
    assert {key: value["description"] for key, value in properties.items()} == {
        "count": "How many.",
        "names": "Which.",
        "pair": "Between.",
    }


def test_no_config_module_imports_torch() -> None:
    code = """
import importlib, pathlib, sys
import tabom_cli.core
root = pathlib.Path(tabom_cli.core.__file__).parent
found = sorted(p.parent.name for p in root.glob("*/config.py"))
for name in found:
    importlib.import_module(f"tabom_cli.core.{name}.config")
print(len(found), [m for m in ("torch", "transformers", "accelerate", "rich") if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    count, rest = done.stdout.split(maxsplit=1)
    assert int(count) >= 6
    assert rest.strip() == "[]"
