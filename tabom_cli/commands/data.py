"""`tabom data`: look into trajectory files, merge them, and exchange them with other projects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tabom_cli import console
from tabom_cli.core.errors import DataError, UsageError

if TYPE_CHECKING:
    from tabom_cli.core.data.trajectory import Trajectory
    from tabom_cli.core.diagnostics.trace_html import TracedAnswer

app = typer.Typer(
    help="Inspect, merge, import and export trajectory files.",
    epilog="Example: tabom data stats asset:examples.jsonl",
    no_args_is_help=True,
    rich_markup_mode=None,
)
FileArgument = Annotated[
    str, typer.Argument(metavar="FILE", help="Trajectory file, or asset:NAME.")
]
TokenizerOption = Annotated[
    str | None,
    typer.Option(
        "--tokenizer", metavar="NAME|PATH", help="Model folder or name; default: as in the rows."
    ),
]
OutputOption = Annotated[Path, typer.Option("--output", metavar="FILE", help="New file.")]


@app.command()
def inspect(
    file: FileArgument,
    rows: Annotated[int, typer.Option(min=1, help="Rows to show.")] = 3,
    row: Annotated[
        list[str] | None, typer.Option("--row", metavar="ID", help="Show this row; repeatable.")
    ] = None,
    verdict: Annotated[
        str | None, typer.Option(help="Show rows of this verdict only, such as wrong.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a page with the rows instead.")
    ] = None,
    tokenizer: TokenizerOption = None,
) -> None:
    """Show rows as people read them, each token coloured by the step that decoded it.

    Early steps are light, late ones dark. Without colours the steps stand below the answer.

    Example: tabom data inspect asset:examples.jsonl --rows 1
    """
    from tabom_cli.core.data.trajectory import iter_trajectories
    from tabom_cli.core.diagnostics.trace_html import traced, write_trace_page

    wanted = (
        one
        for one in iter_trajectories(file)
        if (not row or one.id in row) and (verdict is None or one.verdict == verdict)
    )
    shown = list(islice(wanted, len(set(row)) if row else rows))
    if not shown:
        raise DataError(f"{file}: no such row", hint="tabom data stats FILE counts the verdicts")
    loaded, end_ids = _tokenizer(shown, tokenizer)
    if html is not None:
        if loaded is None:
            raise UsageError("a page needs the tokens' texts", hint="give --tokenizer NAME|PATH")
        answers = [traced(one, loaded) for one in shown]
        write_trace_page(html, answers, title=f"{Path(file).name}: decoding order")
        console.result(str(html))
        return
    for one in shown:
        complete = one.response_token_ids is not None and one.decoding_order is not None
        _show_row(one, traced(one, loaded) if loaded is not None and complete else None, end_ids)
    if not row and next(wanted, None) is not None:
        console.note(f"the first {len(shown)} rows; --rows N shows more")


@app.command()
def stats(
    file: FileArgument,
    tokenizer: TokenizerOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Count verdicts and lengths, and say whether the orders are orders.

    Warns when the decode settings left little to learn from: left-to-right tie-breaking, entropies
    that are all zero, most positions decoded together. Entropies are raw; what ranked the positions
    is told by the manifest beside the file.

    Example: tabom data stats asset:examples.jsonl
    """
    from tabom_cli.core.data.lines import local_path
    from tabom_cli.core.data.stats import trajectory_stats
    from tabom_cli.core.data.stats_text import stat_lines
    from tabom_cli.core.distillation.jobs import decode_warnings
    from tabom_cli.core.distillation.manifest import decode_of

    found = _rows(file)
    decode = decode_of(local_path(file))
    _, end_ids = _tokenizer(found, tokenizer)
    values = trajectory_stats(found, end_ids=end_ids)
    warnings = [*values.warnings(), *(decode_warnings(decode) if decode else ())]
    if as_json:
        console.result_json({**asdict(values), "warnings": warnings})
        return
    console.table(("what", "value"), stat_lines(values), title=f"{values.num_rows} rows in {file}")
    for text in warnings:
        console.warn(text)


@app.command()
def merge(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Parts of one run.")],
    output: OutputOption,
) -> None:
    """Join the parts of a job array and prove that no row is missing or double.

    The result is the file that one undivided run writes. Files of different models are refused: list
    them in a recipe under data.more instead.

    Example: tabom data merge asset:examples.jsonl --output merged.jsonl
    """
    from tabom_cli.commands.runs import command_line
    from tabom_cli.core.data.lines import local_path
    from tabom_cli.core.distillation.merge import merge as join

    paths = [local_path(file) for file in files]
    report = join(paths, output, command=command_line())
    for path in report.unproven:
        console.warn(f"{path} has no manifest: no double ids, but rows of it may be missing")
    counts = ", ".join(f"{count} {verdict}" for verdict, count in report.verdicts.items())
    proof = "" if report.unproven else "; none missing, none double"
    console.note(f"{report.num_rows} rows ({counts}){proof}")
    console.result(str(output))


@app.command("import")
def import_(
    file: Annotated[str, typer.Argument(help="JSON or parquet file, or saved datasets folder.")],
    output: OutputOption,
    tokenizer: Annotated[
        str, typer.Option("--tokenizer", metavar="NAME|PATH", help="Model that answered.")
    ],
    method: Annotated[
        str | None, typer.Option(help="Decoder to record, such as entropy (data.method_filter).")
    ] = None,
    keep_verdicts: Annotated[
        bool, typer.Option("--keep-verdicts", help="Trust the file's own judgement.")
    ] = False,
) -> None:
    """Read a step_map file of dLLM-RL or a trajectory file of d3LLM.

    Example: tabom data import asset:step_map.json --tokenizer tiny --output imported.jsonl
    """
    from tabom_cli.core.data.interchange import ImportReport, import_rows
    from tabom_cli.core.data.lines import local_path
    from tabom_cli.core.data.trajectory import write_trajectories
    from tabom_cli.core.models.load import load_checked_tokenizer
    from tabom_cli.core.models.source import find_source

    source = find_source(tokenizer, weights=False)
    loaded, ids = load_checked_tokenizer(source.folder, label=tokenizer)
    report = ImportReport()
    found = import_rows(
        local_path(file),
        loaded,
        ids,
        report,
        model=source.versioned_name,
        method=method,
        keep_verdicts=keep_verdicts,
    )
    write_trajectories(output, (one.model_dump(mode="json") for one in found))
    for reason, count in report.dropped.items():
        console.warn(f"{count} answers left out {reason}")
    if report.num_first_steps:
        console.warn(
            f"{report.num_first_steps} tokens have step 0, which in this format may also mean that "
            "they were never decoded"
        )
    console.note(f"{report.num_rows} rows from a {report.format} file")
    console.result(str(output))


@app.command()
def export(
    file: FileArgument,
    output: Annotated[Path, typer.Option("--output", metavar="PATH", help="New file or folder.")],
    kind: Annotated[
        Literal["release", "hub"],
        typer.Option("--format", help="Rows of the original release, or a Hub data set folder."),
    ] = "release",
    verdict: Annotated[
        list[str] | None, typer.Option(help="Only rows of this verdict; repeatable.")
    ] = None,
    licence: Annotated[
        str | None, typer.Option("--license", help="Licence of the data set, for its card.")
    ] = None,
    tokenizer: TokenizerOption = None,
) -> None:
    """Write the original release's schema, or a folder with a data set card for the Hub.

    The folder holds README.md (counts, decode configuration, licences, warnings) and data/train.jsonl.

    Example: tabom data export asset:examples.jsonl --format hub --output my_data
    """
    from tabom_cli.core.data.release_export import release_row
    from tabom_cli.core.data.trajectory import write_trajectories

    found = [one for one in _rows(file) if not verdict or one.verdict in verdict]
    if not found:
        raise DataError(f"{file}: no row of verdict {', '.join(verdict or ())}")
    if kind == "release":
        if licence is not None:
            raise UsageError("--license belongs to --format hub: release rows have no card")
        _warn_of_failed(found)
        write_trajectories(output, (release_row(one) for one in found))
    else:
        _write_folder(file, found, output, licence, tokenizer)
    console.note(f"{len(found)} rows")
    console.result(str(output))


def _warn_of_failed(rows: Sequence[Trajectory]) -> None:
    from tabom_cli.core.data.records import FAILED

    counts = Counter(one.verdict for one in rows if one.verdict in FAILED)
    if counts:
        shown = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
        console.warn(
            f"{counts.total()} of {len(rows)} answers failed their check ({shown}), and release rows "
            "have no verdict that would say so; --verdict correct leaves them out"
        )


def _write_folder(
    file: str, rows: list[Trajectory], output: Path, licence: str | None, tokenizer: str | None
) -> None:
    from tabom_cli.core.data.lines import local_path
    from tabom_cli.core.data.release_export import dataset_card
    from tabom_cli.core.data.stats import trajectory_stats
    from tabom_cli.core.data.trajectory import write_trajectories
    from tabom_cli.core.distillation.manifest import read_manifest
    from tabom_cli.core.files import atomic_folder, write_text_atomic

    _, end_ids = _tokenizer(rows, tokenizer)
    with atomic_folder(output) as folder:
        (folder / "data").mkdir()
        write_trajectories(
            folder / "data" / "train.jsonl", (one.model_dump(mode="json") for one in rows)
        )
        card = dataset_card(
            name=output.name,
            stats=trajectory_stats(rows, end_ids=end_ids),
            manifest=read_manifest(local_path(file)),
            models=sorted({one.model for one in rows if one.model}),
            licence=licence,
        )
        write_text_atomic(folder / "README.md", card)


def _rows(file: str) -> list[Trajectory]:
    from tabom_cli.core.data.trajectory import read_trajectories

    return read_trajectories(file)[0]


def _load_tokenizer(name: str) -> tuple[Any, Any]:
    from tabom_cli.core.models.load import load_checked_tokenizer
    from tabom_cli.core.models.source import find_source

    return load_checked_tokenizer(find_source(name, weights=False).folder, label=name)


def _tokenizer(rows: Sequence[Trajectory], name: str | None) -> tuple[Any, frozenset[int]]:
    """Tokenizer and end ids of the model in the rows; None and no ids when it is not on this machine."""
    from tabom_cli.core.models.source import local_source

    if name is not None:
        tokenizer, ids = _load_tokenizer(name)
        return tokenizer, ids.end
    models = {row.model for row in rows}
    model = next(iter(models)) if len(models) == 1 else None
    source = local_source(model.partition("@")[0]) if model else None
    if source is None:
        what = f"{model} is not on this machine" if model else "the rows name no single model"
        console.warn(
            f"{what}: answers count as long as their ids; --tokenizer NAME|PATH tells more"
        )
        return None, frozenset()
    tokenizer, ids = _load_tokenizer(str(source.folder))
    return tokenizer, ids.end


def _show_row(row: Trajectory, answer: TracedAnswer | None, end_ids: frozenset[int]) -> None:
    facts = [row.verdict, row.method, row.data_source, row.model]
    console.heading(f"{row.id}  ({', '.join(fact for fact in facts if fact)})")
    console.result(f"prompt: {row.prompt}")
    if row.reference is not None:
        console.result(f"reference: {row.reference}")
    if answer is None:
        console.result(f"answer: {row.response}")
    else:
        _show_answer(row, answer, end_ids)
    console.result("")


def _show_answer(row: Trajectory, answer: TracedAnswer, end_ids: frozenset[int]) -> None:
    from tabom_cli.core.data.trajectory import content_length
    from tabom_cli.core.diagnostics.trace_html import ramp

    length = content_length(row.response_token_ids or (), end_ids)
    last = max(max(answer.order, default=0), 1)
    tail = len(answer.tokens) - length
    if console.shows_colours():
        pieces: Iterator[tuple[str, tuple[int, int, int] | None]] = (
            (text, ramp(step / last) if step >= 0 else None)
            for text, step in zip(answer.tokens, answer.order, strict=True)
        )
        console.coloured(list(islice(pieces, length)))
    else:
        console.result(f"answer: {row.response}")
        console.result(f"steps: {' '.join(str(step) for step in answer.order[:length])}")
    ends = f", {tail} more behind the end" if tail else ""
    console.result(f"{length} tokens{ends}, {max(answer.order, default=-1) + 1} steps")
