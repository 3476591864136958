"""Where a model comes from: a local folder, a Hub name, or the model that ships with tabom.

Knows files and names, never weights; imports neither torch nor transformers, so that dry runs can ask.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tabom_cli.assets import tiny_path
from tabom_cli.core.errors import EnvironmentNotReady, ModelError, TabomError
from tabom_cli.core.models.footprint import PUBLISHED, family_of
from tabom_cli.core.models.pickles import refuse_pickles

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_SMALL_FILES = ("*.json", "*.txt", "*.jinja", "*.model")


@dataclass(frozen=True)
class Source:
    """A checkpoint folder on this machine.

    Attributes:
        folder: Holds config.json, tokenizer and weights.
        name: What manifests and adapters call it: Hub name, `tiny`, or the absolute folder.
        revision: Hub commit, None for folders.
    """

    folder: Path
    name: str
    revision: str | None = None

    @property
    def versioned_name(self) -> str:
        """The name as rows record it, with the revision if there is one."""
        return self.name if self.revision is None else f"{self.name}@{self.revision}"


@dataclass(frozen=True)
class CheckpointInfo:
    """What a path or name holds, found without reading weights.

    Attributes:
        kind: `base` for a whole model, `adapter` for LoRA weights on one.
        path: Folder or Hub name, as given.
        base: Name of the base model of an adapter; the path itself for a base.
        family: `dream`, `llada`, or None when it cannot be known without the network.
    """

    kind: Literal["base", "adapter"]
    path: str
    base: str | None
    family: str | None


def find_source(path: str, *, revision: str | None = None, weights: bool = True) -> Source:
    """The folder of a model, downloaded from the Hub when it is a Hub name.

    Args:
        path: Local folder, Hub name, or `tiny`.
        revision: Hub commit or tag.
        weights: Fetch the safetensors files too; False fetches config and tokenizer only.

    Raises:
        ModelError: No such folder; a Hub repository that is absent, gated, without safetensors or
            without such a revision.
        EnvironmentNotReady: A Hub name that is not in the cache, and the Hub cannot be reached.
    """
    if path == "tiny":
        return Source(tiny_path(), "tiny")
    folder = Path(path).expanduser()
    if folder.is_dir():
        return Source(folder, str(folder.resolve()))
    if folder.exists():
        raise ModelError(f"{path}: a checkpoint is a folder, this is a file")
    if not _HUB_NAME.fullmatch(path):
        raise ModelError(
            f"{path}: no such folder",
            hint="give a folder with config.json, a Hub name such as Dream-org/Dream-v0-Instruct-7B, or tiny",
        )
    return _from_hub(path, revision, weights)


def local_source(path: str, *, revision: str | None = None) -> Source | None:
    """`find_source` without the network: None when a Hub name is not in the cache.

    Raises:
        ModelError: No such folder, and no Hub name either.
    """
    if path == "tiny" or Path(path).expanduser().exists() or not _HUB_NAME.fullmatch(path):
        return find_source(path)
    from huggingface_hub import errors as hub
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(path, revision=revision, local_files_only=True)
    except (OSError, hub.HfHubHTTPError):
        return None
    return Source(Path(folder), path, Path(folder).name)


def read_config(folder: Path) -> dict[str, Any]:
    """The parsed config.json of a checkpoint folder.

    Raises:
        ModelError: It is absent, or not a JSON object.
    """
    return read_json(folder / "config.json", missing_hint=describe_folder(folder))


def known_config(path: str, *, revision: str | None = None) -> Mapping[str, Any] | None:
    """The config of a model without touching the network; None when it is not on this machine.

    Args:
        path: Local folder, Hub name (published here or in the cache), or `tiny`.
        revision: Hub commit or tag.
    """
    if path == "tiny" or Path(path).expanduser().is_dir():
        return read_config(find_source(path).folder)
    if not _HUB_NAME.fullmatch(path):
        return None
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(path, "config.json", revision=revision)
    if isinstance(cached, str):
        return read_json(Path(cached))
    return PUBLISHED.get(path)


def inspect_checkpoint(path: str) -> CheckpointInfo:
    """Whether `path` is a base model or an adapter, of which base and family.

    Raises:
        ModelError: Neither: no such folder, or a folder without config.json and adapter_config.json.
    """
    folder = tiny_path() if path == "tiny" else Path(path).expanduser()
    if not folder.is_dir():
        if not _HUB_NAME.fullmatch(path) or folder.exists():
            find_source(path)
        config = known_config(path)
        return CheckpointInfo("base", path, path, family_of(config) if config else None)
    if (folder / ADAPTER_CONFIG).is_file():
        values = read_json(folder / ADAPTER_CONFIG)
        base = values.get("base_model_name_or_path")
        return CheckpointInfo("adapter", path, str(base) if base else None, adapter_family(folder))
    config = read_config(folder)
    return CheckpointInfo("base", path, path, family_of(config, source=str(folder / "config.json")))


def adapter_family(folder: Path) -> str | None:
    """Family of an adapter, from its tensor names, else from its base model's name; None if unknown."""
    from tabom_cli.core.models.checks import read_header

    weights = folder / ADAPTER_WEIGHTS
    if weights.is_file():
        for name in read_header(weights):
            if ".transformer.blocks." in name:
                return "llada"
            if ".model.layers." in name:
                return "dream"
    base = read_json(folder / ADAPTER_CONFIG).get("base_model_name_or_path")
    try:
        config = known_config(str(base)) if base else None
    except TabomError:
        return None
    return family_of(config) if config else None


def read_json(path: Path, *, missing_hint: str | None = None) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        ModelError: The file is absent, unreadable, or holds something else.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f"{path}: file not found", hint=missing_hint) from error
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read as JSON: {error}") from error
    if not isinstance(values, dict):
        raise ModelError(f"{path}: expected a JSON object, found {type(values).__name__}")
    return values


def describe_folder(folder: Path) -> str:
    """A hint that says what a folder without config.json holds instead."""
    names = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
    inner = [
        name
        for name in names
        if (folder / name / "config.json").is_file() or (folder / name / ADAPTER_CONFIG).is_file()
    ]
    if inner:
        return f"this folder holds checkpoints, take one of them: {', '.join(inner)}"
    if ADAPTER_CONFIG in names:
        return "this is an adapter: give it as model.adapter, with its base as model.path"
    return f"the folder holds: {', '.join(names[:8]) or 'nothing'}"


def _from_hub(name: str, revision: str | None, weights: bool) -> Source:
    from huggingface_hub import errors as hub
    from huggingface_hub import snapshot_download

    patterns = [*_SMALL_FILES, *(["*.safetensors"] if weights else [])]
    try:
        folder = snapshot_download(name, revision=revision, allow_patterns=patterns)
    except hub.GatedRepoError as error:
        raise ModelError(
            f"{name}: the Hub repository is gated",
            hint="accept its terms on the Hub and log in with `hf auth login`",
        ) from error
    except hub.RevisionNotFoundError as error:
        raise ModelError(f"{name}: no revision '{revision}' on the Hub") from error
    except hub.RepositoryNotFoundError as error:
        raise ModelError(
            f"{name}: no such folder here and no such repository on the Hub",
            hint="check the spelling; a private repository needs `hf auth login`",
        ) from error
    except (OSError, hub.HfHubHTTPError) as error:
        offline = os.environ.get("HF_HUB_OFFLINE") == "1"
        reason = "HF_HUB_OFFLINE=1 is set" if offline else "the Hub cannot be reached"
        raise EnvironmentNotReady(
            f"{name}: not in the local cache, and {reason}",
            hint=f"fetch it where there is a network with `hf download {name}`, "
            "or use the folder of a copy (--set model.path=FOLDER; in tabom export --base)",
        ) from error
    if weights and not any(Path(folder).glob("*.safetensors")):
        refuse_pickles(Path(folder), "model.safetensors")
        raise ModelError(
            f"{name}: its copy in the Hub cache has no *.safetensors files",
            hint=f"`hf download {name}` fetches them; if the Hub has only pickles, run `hf download {name} "
            "--local-dir FOLDER` and give FOLDER as model.path: the command that converts is shown then",
        )
    return Source(Path(folder), name, Path(folder).name)
