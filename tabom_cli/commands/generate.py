"""`tabom generate`: answer one prompt or a file of prompts, shown while it is denoised."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tabom_cli import console
from tabom_cli.commands import options, runs
from tabom_cli.core.errors import RunError, UsageError

if TYPE_CHECKING:
    from tabom_cli.core.data.prompts import Prompt
    from tabom_cli.core.models.config import ModelConfig
    from tabom_cli.core.recipe import Recipe

END_OF_TEXT = "\u00b7"
"""Stands on the terminal for the tokens that end and fill an answer."""


def generate(
    checkpoint: Annotated[
        str, typer.Argument(metavar="CKPT", help="Model, adapter or run folder; Hub name; tiny.")
    ],
    prompt: Annotated[
        str | None, typer.Option("--prompt", metavar="TEXT", help="What to answer; - reads stdin.")
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option("--prompts", metavar="FILE", help="JSONL file with a column `prompt`."),
    ] = None,
    recipe: options.OptionalRecipe = None,
    set_: options.SetOption = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="FILE", help="New JSONL file for the decoded rows."),
    ] = None,
) -> None:
    """Answer prompts and show how the answer is denoised.

    Decodes with the recipe's eval.decode; --set eval.decode.strategy=topk_margin takes another rule. On
    a terminal the positions fill in the order in which they are decided, light for early and dark for
    late steps; otherwise the answer goes to stdout as plain text, and several answers as JSON lines.
    --output writes trajectory rows.

    Example: tabom generate tiny --prompt "What is 12 + 30?"
    """
    if (prompt is None) == (prompts is None):
        raise UsageError(
            "give either --prompt TEXT or --prompts FILE",
            hint='tabom generate tiny --prompt "What is 12 + 30?"',
        )
    if output is not None and output.exists():
        raise RunError(f"{output} exists and is not overwritten", "give another --output")
    checkpoint = runs.newest_checkpoint(checkpoint)
    loaded = runs.recipe_of(checkpoint, recipe, set_)
    runs.refuse_unused_model_settings([checkpoint], loaded)
    if recipe is None:
        console.note(
            f"decoding with eval.decode of recipe {loaded.recipe.name}; --recipe names another"
        )
    questions = _questions(prompt, prompts)
    model = _load(runs.model_config(checkpoint, loaded), seed=loaded.recipe.seed)
    if output is not None:
        _write(model, questions, loaded.recipe, output)
    elif console.is_terminal():
        _stream(model, questions, loaded.recipe)
    else:
        _print(model, questions, loaded.recipe, as_rows=prompts is not None)


def _questions(text: str | None, path: Path | None) -> Sequence[Prompt]:
    from tabom_cli.core.data.prompts import Prompt, read_prompt_file

    if path is not None:
        return read_prompt_file(path)
    text = sys.stdin.read() if text == "-" else text
    if not text or not text.strip():
        raise UsageError("the prompt is empty")
    return [Prompt("prompt", text, None, "command line")]


def _load(config: ModelConfig, *, seed: int) -> Any:
    from tabom_cli.core.models.load import load_model

    console.note(f"loading {config.adapter or config.path} on {runs.device()}")
    return load_model(config, device=runs.device(), seed=seed)


def _answers(model: Any, questions: Sequence[Prompt], recipe: Recipe, **how: Any) -> Any:
    from tabom_cli.core.distillation.answers import answer_prompts

    how = {"config": recipe.eval.decode, **how}
    return answer_prompts(
        model,
        questions,
        seed=recipe.seed,
        max_prompt_length=recipe.eval.max_prompt_length,
        **how,
    )


def _stream(model: Any, questions: Sequence[Prompt], recipe: Recipe) -> None:
    """One prompt after the other, each drawn step by step."""
    from tabom_cli.console_denoise import DenoiseDisplay

    ends = {*model.ids.end, model.ids.eos, model.ids.pad}

    def text_of(tokens: Sequence[int]) -> str:
        return END_OF_TEXT if tokens[0] in ends else str(model.tokenizer.decode(list(tokens)))

    one_by_one = recipe.eval.decode.model_copy(update={"batch_size": 1})
    display = DenoiseDisplay(
        text_of,
        num_steps=recipe.eval.decode.steps,
        console=console.drawing(),
        titles={q.id: q.text for q in questions} if len(questions) > 1 else {},
    )
    with display:
        for answer in _answers(model, questions, recipe, config=one_by_one, observer=display):
            display.finish()
            result = answer.result
            each = len(result.response_token_ids) / result.num_forwards
            console.note(
                f"{len(result.response_token_ids)} tokens in {result.num_forwards} forward passes, "
                f"{each:.2f} tokens each"
            )


def _print(model: Any, questions: Sequence[Prompt], recipe: Recipe, *, as_rows: bool) -> None:
    from tabom_cli.core.distillation.answers import answer_row

    for answer in _answers(model, questions, recipe):
        if as_rows:
            row = answer_row(answer, model, recipe.eval.decode)
            console.raw(row.model_dump_json(exclude_none=True))
        else:
            console.raw(answer.text)


def _write(model: Any, questions: Sequence[Prompt], recipe: Recipe, output: Path) -> None:
    from tabom_cli.core.distillation.answers import answer_row
    from tabom_cli.core.jsonl import append_jsonl

    with console.progress_display() as progress, append_jsonl(output) as rows:
        for answer in _answers(model, questions, recipe, progress=progress):
            row = answer_row(answer, model, recipe.eval.decode)
            rows.write(row.model_dump(mode="json", exclude_none=True))
    console.result(str(output))
