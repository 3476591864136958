"""Read a YAML file into plain values while remembering the line of every key.

Knows YAML, not recipes. Differs from PyYAML's defaults in two ways that bite recipe authors: `1e-4` is
a number, and a key written twice is a fault.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tabom_cli.core.errors import RecipeError

KeyPath = tuple[str, ...]


class _Loader(yaml.SafeLoader):
    """SafeLoader that reads YAML 1.2 floats."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:float"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.\d*|\.\d+|\d+)([eE][-+]?\d+)?$|^[-+]?\.(inf|Inf)$|^\.(nan|NaN)$"),
    list("-+0123456789."),
)
# Integers must win over the float pattern above, which also matches plain digits.
for _first, _resolvers in _Loader.yaml_implicit_resolvers.items():
    _resolvers.sort(key=lambda pair: pair[0] != "tag:yaml.org,2002:int")


@dataclass
class YamlSource:
    """A parsed YAML mapping.

    Attributes:
        name: What error messages call the file.
        values: The plain values.
        lines: 1-based line of each key, by path.
        faults: Problems found while reading (duplicate keys, non-string keys), as ready messages.
    """

    name: str
    values: dict[str, Any]
    lines: dict[KeyPath, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def where(self, path: KeyPath) -> str:
        """`file:line` of a key, or of the nearest enclosing key that is in the file."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.lines:
                return f"{self.name}:{self.lines[path[:length]]}"
        return f"{self.name}:1"


def read_yaml(path: Path, name: str | None = None) -> YamlSource:
    """Read a YAML mapping with line numbers.

    Raises:
        RecipeError: The file cannot be read, is not UTF-8, is not YAML or is not a mapping.
    """
    shown = name or str(path)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise RecipeError(f"{shown} is not UTF-8 text (byte {error.start})") from error
    except OSError as error:
        raise RecipeError(f"cannot read {shown}: {error.strerror}") from error
    source = YamlSource(shown, {})
    try:
        node = yaml.compose(text, Loader=_Loader)
        if isinstance(node, yaml.MappingNode):
            source.values = _mapping(node, (), source)
            return source
    except RecursionError as error:
        raise RecipeError(f"{shown}:1: not valid YAML: an alias stands for itself") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        problem = getattr(error, "problem", None) or str(error)
        raise RecipeError(f"{shown}:{line}: not valid YAML: {problem}") from error
    raise RecipeError(f"{shown}:1: a recipe is a mapping of sections, this file is not")


def parse_value(text: str) -> Any:
    """The value that YAML reads in `text`, with the same rules as in a file."""
    return yaml.load(text, Loader=_Loader)


def _mapping(node: yaml.MappingNode, path: KeyPath, source: YamlSource) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            source.faults.append(f"{source.name}:{line}: keys must be plain words")
            continue
        key = str(key_node.value)
        here = (*path, key)
        if key in values:
            source.faults.append(f"{source.name}:{line}: key '{'.'.join(here)}' is written twice")
        source.lines[here] = line
        values[key] = _value(value_node, here, source)
    return values


def _value(node: yaml.Node, path: KeyPath, source: YamlSource) -> Any:
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, path, source)
    if isinstance(node, yaml.SequenceNode):
        items = []
        for index, item in enumerate(node.value):
            source.lines[*path, str(index)] = item.start_mark.line + 1
            items.append(_value(item, (*path, str(index)), source))
        return items
    return _Loader("").construct_object(node)
