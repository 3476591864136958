"""Strict checks of checkpoint files, adapters and special ids, before anything large is read.

Reads safetensors headers only and imports no transformers. Every check gathers all faults
and names the file and the tensor.
"""

from __future__ import annotations

import json
import math
import operator
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tabom_cli.core.errors import ModelError
from tabom_cli.core.models.base import SpecialIds
from tabom_cli.core.models.pickles import refuse_pickles

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
_MAX_SHOWN = 10


@dataclass(frozen=True)
class TensorInfo:
    """One entry of a safetensors header: dtype as written there (`BF16`) and shape."""

    dtype: str
    shape: tuple[int, ...]


def read_header(path: Path) -> dict[str, TensorInfo]:
    """Names, dtypes and shapes of the tensors of one safetensors file, whose length is checked.

    Raises:
        ModelError: The file is absent, truncated, longer than its header says, or no safetensors file.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > size - 8:
                raise ModelError(
                    f"{path}: truncated: {size} bytes do not hold the header", hint=_AGAIN
                )
            entries = json.loads(file.read(length))
    except FileNotFoundError as error:
        raise ModelError(f"{path}: file not found", hint=_AGAIN) from error
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: not a safetensors file: {error}", hint=_AGAIN) from error
    infos, end = _parse_header(path, entries)
    if size != 8 + length + end:
        word = "truncated" if size < 8 + length + end else "too long"
        raise ModelError(
            f"{path}: {word}: {size} bytes, its header promises {8 + length + end}", hint=_AGAIN
        )
    return infos


def _parse_header(path: Path, entries: Any) -> tuple[dict[str, TensorInfo], int]:
    """Tensors of a parsed header, and the length of the data behind it in bytes."""
    infos, end = {}, 0
    try:
        for name, entry in entries.items():
            if name != "__metadata__":
                shape = tuple(map(operator.index, entry["shape"]))
                infos[name] = TensorInfo(str(entry["dtype"]), shape)
                end = max(end, operator.index(entry["data_offsets"][1]))
    except (AttributeError, KeyError, TypeError, IndexError) as error:
        raise ModelError(
            f"{path}: not a safetensors file: its header does not list tensors", hint=_AGAIN
        ) from error
    return infos, end


_AGAIN = "copy or download this file again"


def check_checkpoint(
    folder: Path, expected: Mapping[str, tuple[int, ...]]
) -> dict[Path, list[str]]:
    """Which tensors to read from which file, after comparing all headers with the network.

    Args:
        folder: Checkpoint folder with an index and shards, or one `model.safetensors`.
        expected: Name and shape of every parameter of the network.

    Returns:
        File to the names in it; together exactly the keys of `expected`.

    Raises:
        ModelError: No safetensors (pickles are refused), or shards and tensors that are missing, extra,
            in a wrong place, of a wrong shape or type. All are listed.
    """
    faults: list[str] = []
    unreadable: list[str] = []
    found: dict[Path, list[str]] = {}
    placed: dict[str, Path] = {}
    promised = _weight_map(folder)
    for path in _shards(folder, promised):
        try:
            header = read_header(path)
        except ModelError as error:
            unreadable.append(error.message)
            continue
        for name, info in header.items():
            where = f"{path}: {name}"
            if name not in expected:
                faults.append(f"{where} does not belong to this architecture")
            elif name in placed:
                faults.append(f"{where} is also in {placed[name].name}")
            elif info.shape != expected[name]:
                faults.append(
                    f"{where} has shape {_shape(info.shape)}, config.json asks for {_shape(expected[name])}"
                )
            elif info.dtype not in _BYTES:
                faults.append(f"{where} has type {info.dtype}; supported: {', '.join(_BYTES)}")
            else:
                found.setdefault(path, []).append(name)
            placed.setdefault(name, path)
    raise_faults(f"{folder}: files that cannot be read", unreadable, hint=_AGAIN)
    for name in expected:
        if name not in placed:
            owner = folder / promised[name] if promised and name in promised else folder
            faults.append(f"{owner}: {name} is missing")
    raise_faults(f"{folder}: the weights do not fit config.json", faults, hint=_AGAIN_FOLDER)
    return found


_AGAIN_FOLDER = "copy or download the checkpoint again, config.json included"


def raise_faults(summary: str, faults: Sequence[str], *, hint: str | None = None) -> None:
    """Raise one ModelError that lists the faults, at most ten; nothing happens without faults."""
    if not faults:
        return
    shown = [f"\n  {fault}" for fault in faults[:_MAX_SHOWN]]
    if len(faults) > _MAX_SHOWN:
        shown.append(f"\n  and {len(faults) - _MAX_SHOWN} more")
    raise ModelError(summary + ":" + "".join(shown), hint=hint)


def check_adapter(
    path: Path, expected: Mapping[str, tuple[int, ...]], *, base: str, adapter_base: str | None
) -> None:
    """Compare an adapter file with the factors that its own config asks for on this base.

    Args:
        path: adapter_model.safetensors.
        expected: Key and shape of every factor, in peft's spelling.
        base: Name of the loaded base, for the message.
        adapter_base: Name of the base that the adapter was trained on, for the message.

    Raises:
        ModelError: Keys that match nothing, keys that are missing, or other shapes; all are listed.
    """
    header = read_header(path)
    faults = [f"{name} matches nothing in the base" for name in header if name not in expected]
    faults += [f"{name} is missing" for name in expected if name not in header]
    faults += [
        f"{name} has shape {_shape(info.shape)}, base and rank ask for {_shape(expected[name])}"
        for name, info in header.items()
        if name in expected and info.shape != expected[name]
    ]
    origin = f"it was trained on {adapter_base}" if adapter_base else "it names no base"
    raise_faults(
        f"{path}: this adapter does not fit {base} ({origin})",
        faults,
        hint=f"load it on {adapter_base}" if adapter_base and adapter_base != base else None,
    )


def check_special_ids(
    config: Mapping[str, Any],
    tokenizer: Any,
    *,
    source: str,
    mask_token: str,
    end_tokens: Collection[str],
    num_rows: int,
) -> SpecialIds:
    """The special ids of the config, after checking that the tokenizer agrees.

    Args:
        config: Parsed config.json: `mask_token_id`, `eos_token_id`, and `pad_token_id` or eos for it.
        tokenizer: The folder's tokenizer; ids that it does not declare are not compared.
        source: Name of the checkpoint, for the message.
        mask_token: How the family writes its mask; compared when the tokenizer knows the string.
        end_tokens: Tokens that end an answer besides eos, those that the tokenizer knows count.
        num_rows: Rows of the embedding.

    Raises:
        ModelError: Ids that differ, or that have no row in the embedding; all are listed.
    """
    eos = config["eos_token_id"]
    eos_ids = [int(token) for token in (eos if isinstance(eos, list) else [eos])]
    pad = config.get("pad_token_id")
    ids = {
        "mask": int(config["mask_token_id"]),
        "eos": eos_ids[0],
        "pad": int(pad) if pad is not None else eos_ids[0],
    }
    vocabulary = tokenizer.get_vocab()
    declared = {
        "mask": tokenizer.mask_token_id
        if tokenizer.mask_token_id is not None
        else vocabulary.get(mask_token),
        "eos": tokenizer.eos_token_id,
        "pad": tokenizer.pad_token_id,
    }
    faults = [
        f"{kind}_token_id is {ids[kind]} in config.json and {declared[kind]} in the tokenizer"
        for kind in ids
        if declared[kind] is not None and declared[kind] != ids[kind]
    ]
    faults += [
        f"{kind}_token_id {token} has no row in the embedding of {num_rows}"
        for kind, token in ids.items()
        if not 0 <= token < num_rows
    ]
    highest = max(vocabulary.values(), default=0)
    if highest >= num_rows:
        faults.append(f"the tokenizer has ids up to {highest}, the embedding {num_rows} rows")
    if ids["mask"] in (ids["eos"], ids["pad"]):
        faults.append(f"mask_token_id {ids['mask']} is also the eos or pad id")
    raise_faults(
        f"{source}: config.json and tokenizer disagree",
        faults,
        hint="use the tokenizer files that were published with this checkpoint",
    )
    ends = {vocabulary[token] for token in end_tokens if token in vocabulary}
    return SpecialIds(ids["mask"], ids["eos"], ids["pad"], frozenset({*eos_ids, *ends}))


def checkpoint_bytes(folder: Path) -> int:
    """Stored size of all tensors of a checkpoint folder, in bytes, from the headers alone."""
    infos = [
        info for path in _shards(folder, _weight_map(folder)) for info in read_header(path).values()
    ]
    return sum(_BYTES.get(info.dtype, 0) * math.prod(info.shape) for info in infos)


def stored_dtype(folder: Path) -> Literal["float32", "bfloat16", "float16"]:
    """The type in which most numbers of a checkpoint folder are stored; float64 counts as float32."""
    sizes: Counter[str] = Counter()
    for path in _shards(folder, _weight_map(folder)):
        for info in read_header(path).values():
            sizes[info.dtype] += math.prod(info.shape)
    names: dict[str, Literal["bfloat16", "float16"]] = {"BF16": "bfloat16", "F16": "float16"}
    return names.get(sizes.most_common(1)[0][0], "float32") if sizes else "float32"


def _weight_map(folder: Path) -> dict[str, str] | None:
    path = folder / INDEX
    if not path.is_file():
        return None
    try:
        weight_map = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        return {str(name): str(file) for name, file in weight_map.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path}: not a weight index: {error!r}", hint=_AGAIN) from error


def _shards(folder: Path, promised: Mapping[str, str] | None) -> list[Path]:
    if promised is not None:
        return [folder / name for name in sorted(set(promised.values()))]
    if (folder / SINGLE).is_file():
        return [folder / SINGLE]
    refuse_pickles(folder, SINGLE)
    raise ModelError(
        f"{folder}: no weights ({SINGLE} or {INDEX})",
        hint="download the checkpoint again, with its *.safetensors files",
    )


def _shape(shape: tuple[int, ...]) -> str:
    return "(" + ", ".join(str(size) for size in shape) + ")"
