"""What ships with the package: the tiny model's folder and the embedded tasks.

Knows where the files lie; does not load them. Pure standard library.
"""

from __future__ import annotations

from pathlib import Path


def tiny_path() -> Path:
    """The folder of the tiny model: config, tokenizer and (once trained) weights."""
    return Path(__file__).parent / "tiny"
