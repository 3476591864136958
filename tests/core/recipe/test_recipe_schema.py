"""The JSON schema of recipe files: every key is there, with its documentation, for every objective."""

from __future__ import annotations

import json
from typing import Any

from tabom_cli.core import plugins
from tabom_cli.core.recipe import Recipe, recipe_schema


def objectives(schema: dict[str, Any]) -> dict[str, dict[str, Any]]:
    variants = schema["properties"]["objective"]["oneOf"]
    return {variant["properties"]["name"]["const"]: variant for variant in variants}


def test_every_installed_objective_has_its_variant() -> None:
    found = objectives(recipe_schema())
    assert sorted(found) == plugins.names("objective")
    assert {"nelbo", "tabom"} <= set(found)
    assert "rank_margin" in found["tabom"]["properties"]
    assert "rank_margin" not in found["nelbo"]["properties"]
    for variant in found.values():
        assert variant["required"][0] == "name"
        assert variant["additionalProperties"] is False


def test_every_section_and_its_keys_are_in_the_schema() -> None:
    schema = json.loads(json.dumps(recipe_schema()))
    assert list(schema["properties"]) == list(Recipe.model_fields)
    assert schema["additionalProperties"] is False
    train = schema["$defs"]["TrainConfig"]["properties"]
    assert train["epochs"] == {
        "default": 5,
        "description": "Passes over the data.",
        "minimum": 1,
        "title": "Epochs",
        "type": "integer",
    }
    assert "ObjectiveSection" not in schema["$defs"]


def test_every_reference_in_the_schema_leads_somewhere() -> None:
    schema = recipe_schema()
    text = json.dumps(schema)
    names = {part.split('"')[0] for part in text.split("#/$defs/")[1:]}
    assert names
    assert names <= set(schema["$defs"])


def test_every_key_is_documented() -> None:
    schema = recipe_schema()
    sections = {**schema["$defs"], **objectives(schema), "recipe": schema}
    undocumented = [
        f"{name}.{key}"
        for name, section in sections.items()
        for key, value in section.get("properties", {}).items()
        if "description" not in value
        # A key whose text is that of its section has it there only.
        and "description" not in schema["$defs"].get(value.get("$ref", "").rsplit("/")[-1], {})
        and not (name in objectives(schema) and key == "name")
    ]
    assert undocumented == []
