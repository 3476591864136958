"""The base class of every recipe section. Knows no section."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Strict


class Section(BaseModel):
    """A frozen group of settings that refuses unknown keys and does not convert types.

    Text under a field is its documentation: it reaches the JSON schema and the key table in README.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


StringTuple = Annotated[tuple[str, ...], Strict(False)]
"""A tuple of strings that YAML writes as a list."""

FloatPair = Annotated[tuple[float, float], Strict(False)]
"""Two numbers that YAML writes as a list."""
