from __future__ import annotations

import inspect

import pytest

from tabom_cli.core import errors


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.TabomError, 1),
        (errors.UsageError, 2),
        (errors.RecipeError, 2),
        (errors.DataError, 1),
        (errors.ModelError, 1),
        (errors.RunError, 1),
        (errors.EnvironmentNotReady, 3),
        (errors.Interrupted, 130),
    ],
)
def test_each_kind_of_error_has_its_exit_code(kind: type[errors.TabomError], code: int) -> None:
    error = kind("what is wrong", hint="what helps")
    assert error.exit_code == code
    assert (error.message, error.hint, str(error)) == (
        "what is wrong",
        "what helps",
        "what is wrong",
    )
    assert kind("alone").hint is None


def test_every_error_class_is_in_the_table_above() -> None:
    classes = [
        item
        for _, item in inspect.getmembers(errors, inspect.isclass)
        if issubclass(item, errors.TabomError)
    ]
    assert len(classes) == 8
