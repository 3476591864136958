"""The two files between the phases: requests (prompts) and completions (answers), as JSON lines.

The first line of either file is its header. Knows the format only: prompts come from `requests`,
answers from `generate`. Imports neither torch nor lm-eval, since both phases read these files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, ValidationError

from tabom_cli.core.config import Section
from tabom_cli.core.errors import DataError, RunError
from tabom_cli.core.files import write_text_atomic

SCHEMA_VERSION = 1


class Message(Section):
    """One turn of a chat."""

    role: Literal["system", "user", "assistant"]
    content: str


class Request(Section):
    """One prompt that wants one answer."""

    id: str
    """Hash of everything below that can change the answer; completions are found by it."""
    task: str
    doc_index: int
    """Row of the problem in the task's data, from 0."""
    sample_index: int = 0
    """Which of several answers to the same problem."""
    seed: int
    """Seeds the sampler for this row alone."""
    messages: tuple[Message, ...]
    """The chat as text, without the assistant's turn; the model's own template renders it."""
    gen_prefix: str | None = None
    """Text that opens the assistant's turn and is not part of the answer."""
    until: tuple[str, ...] = ()
    """Strings that end the answer, applied after decoding."""
    max_new_tokens: int | None = None
    """The harness's own cap, for the record; the decode settings decide the length."""
    prompt_hash: str
    """Hash of messages and gen_prefix."""


class RequestsHeader(Section):
    """How a requests file was made, so that scoring builds the same tasks again."""

    kind: Literal["requests"] = "requests"
    schema_version: int = SCHEMA_VERSION
    tasks: tuple[str, ...]
    task_versions: dict[str, str]
    data_dir: str | None
    num_fewshot: int
    limit: int | None
    num_samples: int
    seed: int
    harness: str
    """Version of lm-eval that rendered the prompts."""


class CompletionsHeader(Section):
    """Who made the answers, and how."""

    kind: Literal["completions"] = "completions"
    schema_version: int = SCHEMA_VERSION
    key: str
    """Hash of what can change an answer: weights, decode settings, prompt length, template."""
    model: str
    revision: str | None
    adapter: str | None
    family: str
    weights_hash: str
    """Of all parameters, adapter included."""
    base_hash: str | None = None
    """Of the base's parameters, the same with and without an adapter."""
    adapter_hash: str | None = None
    template_hash: str
    decode: dict[str, Any]
    max_prompt_length: int
    answer_end: str
    world_size: int
    versions: dict[str, str]
    device: str


class Completion(Section):
    """One answer."""

    id: str
    """Id of the request."""
    task: str
    doc_index: int
    sample_index: int
    text: str
    """The answer after cutting at the end token and at the `until` strings."""
    num_prompt_tokens: int = Field(ge=0)
    num_tokens: int = Field(ge=0)
    """Tokens before the first end token."""
    num_revealed: int = Field(ge=0)
    """Tokens the sampler revealed, end tokens included."""
    num_forwards: int = Field(ge=0)
    num_steps: int = Field(ge=0)
    ended: bool
    """Whether the response holds an end token."""
    time_s: float
    """Seconds since the previous answer of the same process; they add up to its decoding time."""
    tds: dict[str, Any] | None = None
    """What the caller's observer recorded of this row, such as the entropy variance per step."""


def digest(value: Any) -> str:
    """SHA-256 of a value's canonical JSON, in hexadecimal."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def make_request(
    task: str,
    doc_index: int,
    *,
    messages: Sequence[dict[str, str]],
    gen_prefix: str | None,
    until: Sequence[str],
    max_new_tokens: int | None,
    seed: int,
    sample_index: int = 0,
) -> Request:
    """A request whose id and sampler seed follow from its content and the run's seed."""
    prompt_hash = digest({"messages": list(messages), "gen_prefix": gen_prefix})
    row_seed = int(digest([seed, task, doc_index, sample_index])[:15], 16)
    identity = [task, doc_index, sample_index, row_seed, prompt_hash, list(until)]
    return Request(
        id=digest(identity)[:24],
        task=task,
        doc_index=doc_index,
        sample_index=sample_index,
        seed=row_seed,
        messages=tuple(Message.model_validate(message) for message in messages),
        gen_prefix=gen_prefix,
        until=tuple(until),
        max_new_tokens=max_new_tokens,
        prompt_hash=prompt_hash,
    )


def write_requests(path: Path, header: RequestsHeader, requests: Iterable[Request]) -> None:
    """Write a requests file, whole or not at all."""
    lines = [header.model_dump_json(), *(request.model_dump_json() for request in requests)]
    write_text_atomic(path, "\n".join(lines) + "\n")


def read_requests(path: Path) -> tuple[RequestsHeader, list[Request]]:
    """Read a requests file.

    Raises:
        DataError: The file is missing, empty or holds a line that is no request.
    """
    lines = _lines(path)
    if not lines:
        raise DataError(f"{path}: empty", hint="make it with `tabom eval` or build_requests")
    header = _parse(RequestsHeader, lines[0], f"{path}:1")
    requests = [
        _parse(Request, line, f"{path}:{number}") for number, line in enumerate(lines[1:], start=2)
    ]
    if len({request.id for request in requests}) != len(requests):
        raise DataError(f"{path}: two requests share an id")
    return header, requests


def shard_path(path: Path, rank: int, world_size: int) -> Path:
    """Where process `rank` appends: `path` itself when alone, else `<stem>.rank<r>of<n>.jsonl`.

    The number of processes is part of the name, so that a file holds the time of one kind of run.
    """
    if world_size == 1:
        return path
    return path.with_name(f"{path.stem}.rank{rank}of{world_size}{path.suffix}")


def completion_files(path: Path) -> list[Path]:
    """All files that hold completions of one run, whatever numbers of processes wrote them."""
    shards = sorted(path.parent.glob(f"{path.stem}.rank*{path.suffix}"))
    return ([path] if path.exists() else []) + shards


def read_completions(path: Path) -> tuple[CompletionsHeader | None, dict[str, Completion]]:
    """Read every finished completion of a run; an unfinished last line is skipped.

    Args:
        path: The run's completions file; the shards beside it are read too.

    Returns:
        The header (None when nothing was written yet) and the completions by request id.

    Raises:
        DataError: A line that is not the last one cannot be read.
        RunError: The shards were made by different models or decode settings.
    """
    header: CompletionsHeader | None = None
    found: dict[str, Completion] = {}
    for file in completion_files(path):
        lines = _lines(file, allow_torn=True)
        if not lines:
            continue
        own = _parse(CompletionsHeader, lines[0], f"{file}:1")
        if header is not None and own.key != header.key:
            raise RunError(f"{file}: made with another model or decode than {path}")
        header = header or own
        for number, line in enumerate(lines[1:], start=2):
            completion = _parse(Completion, line, f"{file}:{number}")
            found.setdefault(completion.id, completion)
    return header, found


def unlike_header(
    header: CompletionsHeader, *, decode: Mapping[str, Any], max_prompt_length: int, answer_end: str
) -> list[str]:
    """Settings that could change an answer and are not those of a completions file, in words.

    Args:
        header: Of the file.
        decode: Decode settings as JSON values; the batch size is not compared.
        max_prompt_length: Prompt budget in tokens.
        answer_end: Where answers end.

    Returns:
        Such as `["decode.steps 16 against 256"]`, the file's value first.
    """
    settings = {
        "max_prompt_length": (header.max_prompt_length, max_prompt_length),
        "answer_end": (header.answer_end, answer_end),
        **{f"decode.{key}": (header.decode.get(key), value) for key, value in decode.items()},
    }
    settings.pop("decode.batch_size", None)
    return [f"{name} {old} against {new}" for name, (old, new) in settings.items() if old != new]


def decoding_time_s(path: Path, ids: Collection[str] | None = None) -> float:
    """Seconds of decoding behind the completions of a run.

    Processes run side by side, so the slowest of each number of processes counts; a run that went
    on with another number of processes counts both. Answers share batches, so the part of some of
    them is their part of the forwards.

    Args:
        path: The run's completions file; the shards beside it are read too.
        ids: Requests that count, None for all.
    """
    slowest: dict[int, float] = {}
    for file in completion_files(path):
        lines = _lines(file, allow_torn=True)
        if not lines:
            continue
        world_size = _parse(CompletionsHeader, lines[0], f"{file}:1").world_size
        rows = [_parse(Completion, line, str(file)) for line in lines[1:]]
        forwards = sum(row.num_forwards for row in rows)
        own = sum(row.num_forwards for row in rows if ids is None or row.id in ids)
        time_s = sum(row.time_s for row in rows) * (own / forwards if forwards else 0.0)
        slowest[world_size] = max(slowest.get(world_size, 0.0), time_s)
    return sum(slowest.values())


_Record = TypeVar("_Record", bound=Section)


def _parse(kind: type[_Record], line: str, place: str) -> _Record:
    try:
        return kind.model_validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "line"
        raise DataError(f"{place}: no {kind.__name__}: {where}: {first['msg']}") from error


def _lines(path: Path, *, allow_torn: bool = False) -> list[str]:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    body, newline, torn = content.rpartition(b"\n")
    if torn and not allow_torn:
        raise DataError(f"{path}: the last line is incomplete", hint="make the file again")
    try:
        return (body + newline).decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 at byte {error.start}") from error
