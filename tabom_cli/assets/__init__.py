"""What ships with the package: the tiny model's folder and the embedded tasks.

Knows where the files lie; does not load them. Pure standard library.
"""

from __future__ import annotations

from pathlib import Path


def tiny_path() -> Path:
    """The folder of the tiny model: config, tokenizer and (once trained) weights."""
    return Path(__file__).parent / "tiny"


def asset_path(name: str) -> Path:
    """A file that ships with the package, by its name in this folder; it need not exist."""
    return Path(__file__).parent / name


def asset_names(suffixes: tuple[str, ...]) -> list[str]:
    """Names of the shipped files that end so."""
    folder = Path(__file__).parent
    return sorted(path.name for path in folder.iterdir() if path.name.endswith(suffixes))
