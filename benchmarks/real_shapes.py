"""Both real shapes on one GPU with random weights: load, forward, decode, train, agreement, memory.

    python benchmarks/real_shapes.py                    Dream-7B and LLaDA-8B; about 32 GB of disk, one at a time
    python benchmarks/real_shapes.py --scale tiny       the same parts at toy size, on any machine

Random bfloat16 checkpoints of the published shapes are written as safetensors shards and go through the
same `load_model` as published ones, without a network. A part that fails is printed and the next one
runs; the last line of stdout is a JSON object with all figures.
"""

# ruff: noqa: D102, E402 - the checkout is put on the path before it is imported

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import torch
from torch import Tensor

from tabom_cli.commands.runs import training_sections
from tabom_cli.core import plugins
from tabom_cli.core.data.batch import TrainingRow, collate
from tabom_cli.core.decoding.config import DecodeConfig
from tabom_cli.core.decoding.scheduler import DecodeRequest, decode
from tabom_cli.core.models import footprint
from tabom_cli.core.models.base import DiffusionLM
from tabom_cli.core.models.config import ModelConfig
from tabom_cli.core.models.fingerprint import weights_hash
from tabom_cli.core.models.layers import NativeModel, enable_gradient_checkpointing
from tabom_cli.core.models.load import load_model
from tabom_cli.core.models.lora import attach_adapter
from tabom_cli.core.objectives.base import combine
from tabom_cli.core.recipe import load_recipe

GIB = 2**30
PUBLISHED = ROOT / "tests" / "fixtures" / "checkpoints"
NAMES = {"dream": "Dream-v0-Instruct-7B", "llada": "LLaDA-8B-Instruct"}
RECIPES = {"dream": "dream_prm12k", "llada": "llada_prm12k"}
TINY: dict[str, dict[str, Any]] = {
    "dream": {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_window_layers": 2,
    },
    "llada": {"d_model": 64, "mlp_hidden_size": 96, "n_layers": 2, "n_heads": 4, "n_kv_heads": 4},
}
SHARD_BYTES = 4 * 10**9
SYNC_LIMIT_S = 45.0


class Report:
    """Runs parts one by one, prints each at once and keeps the figures."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def part(self, name: str, run: Callable[[], Any]) -> Any:
        """The part's value, or None after printing why it failed."""
        print(f"-- {name}", flush=True)
        started = time.perf_counter()
        try:
            value = run()
        except Exception as error:
            traceback.print_exc(file=sys.stdout)
            self.values[name] = {"error": f"{type(error).__name__}: {str(error)[:300]}"}
            value = None
        else:
            if isinstance(value, dict):
                self.values[name] = value
                for key, entry in value.items():
                    print(f"   {key}: {_shown(entry)}", flush=True)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        print(f"   ({time.perf_counter() - started:.1f} s)", flush=True)
        return value


class HostMemory:
    """Peak memory of this process while the block runs, sampled every 10 ms."""

    def __enter__(self) -> HostMemory:
        self.start = self._read()
        self.peak = dict(self.start)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def grown(self, key: str) -> float:
        """GiB above the start at the worst moment.

        `RssAnon` is memory of our own; `VmRSS` also counts pages of the mapped checkpoint file, which
        the system may drop at any time.
        """
        return (self.peak[key] - self.start[key]) / GIB

    def _watch(self) -> None:
        while not self._stop.wait(0.01):
            now = self._read()
            self.peak = {key: max(value, now[key]) for key, value in self.peak.items()}

    @staticmethod
    def _read() -> dict[str, int]:
        lines = Path("/proc/self/status").read_text().splitlines()
        values = {
            line.split(":")[0]: line.split()[1]
            for line in lines
            if line.startswith(("Rss", "VmRSS"))
        }
        return {key: int(values[key]) * 1024 for key in ("RssAnon", "VmRSS")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", choices=("real", "tiny"), default="real")
    parser.add_argument("--family", choices=("dream", "llada", "both"), default="both")
    parser.add_argument(
        "--folder", help="where the checkpoints are written; default a temporary one"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--pytest", action="store_true", help="run the tests of models and decoding too"
    )
    parser.add_argument(
        "--no-float32", action="store_true", help="leave out the float32 comparison"
    )
    parser.add_argument("--output", type=Path, help="write the figures to this JSON file too")
    arguments = parser.parse_args()
    report = Report()
    report.part("environment", environment)
    families = ("dream", "llada") if arguments.family == "both" else (arguments.family,)
    for family in families:
        with tempfile.TemporaryDirectory(dir=arguments.folder, prefix=f"{family}_") as folder:
            Family(family, Path(folder), arguments, report).run()
    if arguments.pytest:
        report.part("pytest", run_tests)
    text = json.dumps(report.values)
    if arguments.output:
        arguments.output.write_text(text + "\n")
    print(text, flush=True)


def environment() -> dict[str, Any]:
    from importlib import metadata, util

    names = ("torch", "transformers", "peft", "accelerate", "safetensors", "pydantic")
    missing = [name for name in (*names, "typer", "rich", "pytest") if not util.find_spec(name)]
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none"
    return {
        "gpu": gpu,
        **{name: metadata.version(name) for name in names if name not in missing},
        "missing": missing,
        "python": sys.version.split()[0],
    }


class Family:
    """All parts of one family."""

    def __init__(self, name: str, folder: Path, arguments: Any, report: Report) -> None:
        self.name, self.folder, self.report = name, folder, report
        self.device: str = arguments.device
        self.tiny = arguments.scale == "tiny"
        self.float32 = not arguments.no_float32
        self.config = json.loads((PUBLISHED / NAMES[name] / "config.json").read_text())
        if self.tiny:
            self.config |= TINY[name]
        self.prompt, self.response, self.batch = (24, 32, 2) if self.tiny else (256, 256, 8)
        self.model: DiffusionLM | None = None

    def run(self) -> None:
        self._part("write a random checkpoint", self.write)
        self._part("load in bfloat16", self.load)
        if self.model is None:
            return
        self._part("forward", self.forward)
        self._part("decode 32 tokens", self.decode)
        self._part("agreement in bfloat16", self.agreement)
        if self.float32:
            self._part("agreement with float32", self.agreement_float32)
        self._part("train without checkpointing", lambda: self.train(checkpointing=False))
        self._part("train with checkpointing", lambda: self.train(checkpointing=True))
        self._part("decode under determinism", self.decode_deterministic)
        self.model = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _part(self, name: str, run: Callable[[], Any]) -> None:
        self.report.part(f"{self.name}: {name}", run)

    def write(self) -> dict[str, Any]:
        started = time.perf_counter()
        write_tokenizer(self.name, self.folder)
        (self.folder / "config.json").write_text(json.dumps(self.config))
        shapes = footprint.parameter_shapes(self.config)
        size = write_weights(self.folder, shapes, self.device)
        seconds = time.perf_counter() - started
        synced = drop_cache(sorted(self.folder.glob("*.safetensors")))
        return {
            "parameters": sum(math.prod(shape) for shape in shapes.values()),
            "size_gib": size / GIB,
            "write_s": seconds,
            "flushed_to_disk": synced,
        }

    def load(self) -> dict[str, Any]:
        torch.zeros(1, device=self.device)
        reset_peak()
        config = ModelConfig(path=str(self.folder), dtype="bfloat16")
        started = time.perf_counter()
        with HostMemory() as memory:
            self.model = load_model(config, device=self.device)
            synchronize()
        seconds = time.perf_counter() - started
        size = sum(p.numel() * p.element_size() for p in self.model.network.parameters())
        return {
            "load_s": seconds,
            "limit_s": 30,
            "weights_gib": size / GIB,
            "host_own_memory_growth_gib": memory.grown("RssAnon"),
            "host_with_mapped_file_growth_gib": memory.grown("VmRSS"),
            "no_second_copy": self.device == "cpu"
            or memory.grown("RssAnon") * GIB < 0.1 * size + GIB,
            "gpu_peak_gib": peak(),
            "hash_s": self.hash_weights(),
        }

    def hash_weights(self) -> float:
        """Seconds of the hash by which a distillation or evaluation knows the weights again."""
        started = time.perf_counter()
        weights_hash(self.loaded.network)
        return time.perf_counter() - started

    def forward(self) -> dict[str, Any]:
        figures: dict[str, Any] = {}
        for rows in (1, self.batch):
            ids = self.tokens(rows, self.prompt + self.response)
            self.run_network(ids, None)
            reset_peak()
            started = time.perf_counter()
            self.run_network(ids, None)
            synchronize()
            length = ids.shape[1]
            figures[f"{rows} x {length}: ms"] = 1000 * (time.perf_counter() - started)
            figures[f"{rows} x {length}: gpu_peak_gib"] = peak()
        return figures

    def decode(self) -> dict[str, Any]:
        figures: dict[str, Any] = {}
        self.decode_with(self.settings())
        for label, rows, settings in (
            ("greedy, 1 row", 1, self.settings()),
            (f"greedy, {self.batch} rows", self.batch, self.settings()),
            (
                "top-p sampling, 1 row",
                1,
                self.settings(temperature=0.2, top_p=0.9, token_pick="sample"),
            ),
            ("threshold, 1 row", 1, self.settings(threshold=0.9, schedule="time")),
        ):
            reset_peak()
            # The first run loads kernels, which takes longer than the decode; the second one is timed.
            first = self.decode_with(settings, rows)
            synchronize()
            started = time.perf_counter()
            again = self.decode_with(settings, rows)
            synchronize()
            seconds = time.perf_counter() - started
            mask = self.loaded.mask_token_id
            figures[label] = {
                "s": seconds,
                "forwards": max(result.num_forwards for result in first),
                "gpu_peak_gib": peak(),
                "all_decided": all(mask not in r.response_token_ids for r in first),
                "repeatable": [r.response_token_ids for r in first]
                == [r.response_token_ids for r in again],
            }
        return figures

    def agreement(self) -> dict[str, Any]:
        return self.compare_back_ends(self.loaded)

    def agreement_float32(self) -> dict[str, Any]:
        wide = load_model(ModelConfig(path=str(self.folder), dtype="float32"), device=self.device)
        figures = self.compare_back_ends(wide)
        ids, mask = self.padded()
        figures["bfloat16 vs float32, padded"] = difference(
            self.logits(self.loaded, ids, mask), self.logits(wide, ids, mask)
        )
        return figures

    def compare_back_ends(self, model: DiffusionLM) -> dict[str, Any]:
        """Logits of the last 32 positions: kernels, padding and batch mates change only rounding."""
        ids, mask = self.padded()
        padding = int((~mask[1]).sum())
        batched = self.logits(model, ids, mask)
        unpadded = self.logits(model, ids, None)
        alone = self.logits(model, ids[1:, padding:], None)
        with eager(model):
            plain = self.logits(model, ids, mask)
            plain_unpadded = self.logits(model, ids, None)
        return {
            "sdpa vs eager, unpadded": difference(unpadded, plain_unpadded),
            "sdpa vs eager, padded": difference(batched, plain),
            "padded in a batch vs alone": difference(batched[1:], alone),
        }

    def train(self, *, checkpointing: bool) -> dict[str, Any]:
        from tabom_cli.core.training.module import TrainModule
        from tabom_cli.core.training.optim import build_optimizer
        from tabom_cli.core.training.plan import estimate_memory

        changes = [f"train.gradient_checkpointing={str(checkpointing).lower()}"]
        if self.tiny:
            changes += ["train.micro_batch_size=2", "train.global_batch_size=2"]
            changes += [
                f"data.max_prompt_length={self.prompt}",
                f"data.response_length={self.response}",
            ]
            changes += ["objective.supervision_window=8", "objective.rank_window=8"]
        recipe = load_recipe(RECIPES[self.name], changes).recipe
        sections = training_sections(recipe)
        estimate = estimate_memory(sections, self.config, 1)
        model = self.adapted(recipe)
        if checkpointing:
            enable_gradient_checkpointing(model.network)
        set_deterministic(True)
        try:
            objective = plugins.load("objective", recipe.objective.name).OBJECTIVE(
                recipe.objective.settings
            )
            module = TrainModule(model, objective)
            optimizer = build_optimizer(module.parameters(), recipe.train)
            batch = collate(
                self.rows(), response_length=self.response, pad_token_id=model.pad_token_id
            )
            generators = [torch.Generator().manual_seed(row) for row in range(self.batch)]
            state = objective.prepare(batch, generators, model.mask_token_id)
            state = state.to(torch.device(self.device))
            module.train()
            seconds, losses, gradients = [], [], []
            reset_peak()
            for _ in range(3):
                synchronize()
                started = time.perf_counter()
                optimizer.zero_grad(set_to_none=True)
                with torch.autocast(torch.device(self.device).type, dtype=torch.bfloat16):
                    terms = module(state)
                    loss = combine(terms.sums, state.counts, objective.weights)
                loss.backward()
                trained = [p for p in module.parameters() if p.requires_grad]
                gradients.append(torch.stack([p.grad.float().norm() for p in trained]).tolist())
                torch.nn.utils.clip_grad_norm_(trained, recipe.train.max_grad_norm)
                if len(gradients) == 2:
                    # The first two steps start from equal weights: their gradients must be equal.
                    optimizer.step()
                synchronize()
                seconds.append(time.perf_counter() - started)
                losses.append(float(loss.detach()))
            highest = peak()
        finally:
            set_deterministic(False)
            model.network.eval()
        return {
            "rows x length": f"{state.input_ids.shape[0]} x {state.input_ids.shape[1]}",
            "supervised_tokens": int(state.supervised_mask.sum()),
            "loss": losses,
            "step_s": min(seconds[1:]),
            "tokens_per_s": state.input_ids.numel() / min(seconds[1:]),
            "gpu_peak_gib": highest,
            "estimate_gib": estimate.total / GIB,
            "estimate_over_measured": estimate.total / GIB / highest if highest else None,
            "trained_parameters": sum(p.numel() for p in trained),
            "modules_with_gradient": sum(norm > 0 for norm in gradients[-1]),
            "modules": len(trained),
            "equal_gradient_norms": gradients[0] == gradients[1],
        }

    def decode_deterministic(self) -> dict[str, Any]:
        """Which decode settings run while PyTorch refuses kernels that are not repeatable."""
        figures: dict[str, Any] = {}
        set_deterministic(True)
        try:
            for label, settings in (
                ("greedy", self.settings()),
                ("sampling", self.settings(temperature=0.7, token_pick="sample")),
                ("top-p sampling", self.settings(temperature=0.2, top_p=0.9, token_pick="sample")),
            ):
                try:
                    self.decode_with(settings)
                    figures[label] = "runs"
                except RuntimeError as error:
                    figures[label] = f"refused: {str(error).splitlines()[0][:160]}"
        finally:
            set_deterministic(False)
        return figures

    @property
    def loaded(self) -> DiffusionLM:
        if self.model is None:
            raise RuntimeError("no model was loaded")
        return self.model

    def adapted(self, recipe: Any) -> DiffusionLM:
        """The loaded model with a fresh adapter, which later parts keep."""
        model = self.loaded
        if not hasattr(model.network, "peft_config"):
            family = plugins.load("model family", self.name)
            network = attach_adapter(
                model.network, recipe.lora, task_type=family.TASK_TYPE, base=self.name, seed=0
            )
            self.model = DiffusionLM(self.name, network, model.tokenizer, model.ids, model.name)
        return self.loaded

    def settings(self, **changes: Any) -> DecodeConfig:
        num = 4 if self.tiny else 32
        values: dict[str, Any] = {"steps": num, "max_new_tokens": num, "batch_size": self.batch}
        if self.name == "llada":
            values |= {"strategy": "low_confidence", "block_length": num, "schedule": "even"}
        return DecodeConfig.model_validate(values | changes)

    def decode_with(self, settings: DecodeConfig, rows: int = 1) -> list[Any]:
        requests = [
            DecodeRequest(str(row), tuple(self.tokens(1, 40 + 7 * row, seed=row)[0].tolist()), row)
            for row in range(rows)
        ]
        results = list(decode(self.loaded, requests, settings))
        return sorted(results, key=lambda result: int(result.id))

    def padded(self) -> tuple[Tensor, Tensor]:
        """Two rows of 128 tokens; the second has 40 of padding."""
        ids = self.tokens(2, 128)
        mask = torch.ones_like(ids, dtype=torch.bool)
        mask[1, :40] = False
        return ids, mask

    def tokens(self, rows: int, length: int, seed: int = 0) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randint(0, 100_000, (rows, length), generator=generator).to(self.device)

    def rows(self) -> list[TrainingRow]:
        """Full-length rows with a random decoding order, one token a step."""
        made = []
        for row in range(self.batch):
            generator = torch.Generator().manual_seed(row)
            tokens = self.tokens(1, self.prompt + self.response, seed=100 + row)[0].tolist()
            made.append(
                TrainingRow(
                    sample_id=str(row),
                    group_id=str(row),
                    prompt_token_ids=tuple(tokens[: self.prompt]),
                    response_token_ids=tuple(tokens[self.prompt :]),
                    decoding_order=tuple(
                        torch.randperm(self.response, generator=generator).tolist()
                    ),
                    decoding_entropy=tuple(torch.rand(self.response, generator=generator).tolist()),
                )
            )
        return made

    @torch.no_grad()
    def run_network(self, ids: Tensor, mask: Tensor | None) -> Tensor:
        hidden = self.loaded.hidden(ids, mask)
        return self.loaded.logits(hidden[:, -32:])

    @staticmethod
    @torch.no_grad()
    def logits(model: DiffusionLM, ids: Tensor, mask: Tensor | None) -> Tensor:
        return model.logits(model.hidden(ids, mask)[:, -32:]).float()


class eager:  # noqa: N801 - reads as a statement
    """Compute attention by the plain formula while the block runs."""

    def __init__(self, model: DiffusionLM) -> None:
        self.config = next(m for m in model.network.modules() if isinstance(m, NativeModel)).config

    def __enter__(self) -> None:
        self.before = self.config._attn_implementation
        self.config._attn_implementation = "eager"

    def __exit__(self, *error: object) -> None:
        self.config._attn_implementation = self.before


def difference(found: Tensor, expected: Tensor) -> dict[str, float]:
    """How far two sets of logits are apart, absolutely and beside their own spread."""
    gap = (found - expected).abs()
    return {
        "max": float(gap.max()),
        "mean": float(gap.mean()),
        "mean_over_std": float(gap.mean() / expected.std()),
        "same_argmax": float((found.argmax(-1) == expected.argmax(-1)).float().mean()),
    }


def write_tokenizer(family: str, folder: Path) -> None:
    """Dream's published tokenizer; for LLaDA bytes as words with the real special tokens and template."""
    published = PUBLISHED / NAMES[family]
    if family == "dream":
        for path in published.iterdir():
            if "index" not in path.name and path.name != "config.json":
                shutil.copyfile(path, folder / path.name)
        return
    from tokenizers import AddedToken, Tokenizer, decoders
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel

    text = (published / "tokenizer_config.json").read_text()
    special = json.loads(text)["added_tokens_decoder"]
    vocabulary = {symbol: index for index, symbol in enumerate(sorted(ByteLevel.alphabet()))}
    vocabulary |= {token["content"]: int(index) for index, token in special.items()}
    backend = Tokenizer(BPE(vocabulary, []))
    backend.pre_tokenizer = ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(token["content"]) for token in special.values()])
    backend.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(text)


def write_weights(folder: Path, shapes: dict[str, tuple[int, ...]], device: str) -> int:
    """Shards of bfloat16 tensors cut from one random block; returns the bytes of all tensors.

    Written by hand and not by safetensors, which would copy every shard in memory first.
    """
    largest = max(math.prod(shape) for shape in shapes.values())
    slack = 2**24 if largest > 2**26 else 2**12
    generator = torch.Generator(device=device).manual_seed(0)
    block = torch.empty(largest + slack, dtype=torch.bfloat16, device=device)
    block.normal_(0.0, 0.02, generator=generator)
    shards: list[dict[str, tuple[int, ...]]] = [{}]
    filled = 0
    for name, shape in shapes.items():
        size = 2 * math.prod(shape)
        if filled + size > SHARD_BYTES and shards[-1]:
            shards.append({})
            filled = 0
        shards[-1][name] = shape
        filled += size
    weight_map: dict[str, str] = {}
    total = 0
    for number, shard in enumerate(shards, start=1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        offset = 0
        for name, shape in shard.items():
            end = offset + 2 * math.prod(shape)
            header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, end]}
            offset = end
            weight_map[name] = file
        total += offset
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with (folder / file).open("wb", buffering=0) as stream:
            stream.write(len(text).to_bytes(8, "little") + text)
            for name, shape in shard.items():
                data = memoryview(
                    _tensor(block, name, shape, slack).cpu().view(torch.int16).numpy()
                )
                raw = data.cast("B")
                while raw:
                    raw = raw[stream.write(raw) :]
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return total


def _tensor(block: Tensor, name: str, shape: tuple[int, ...], slack: int) -> Tensor:
    """A cut of the block that differs from name to name; norms are near one."""
    numel = math.prod(shape)
    start = hash_of(name) % slack
    cut = block[start : start + numel]
    if len(shape) == 1 and not name.endswith(".bias"):
        return (1.0 + cut).contiguous()
    return -cut if hash_of(name) & 1 else cut.clone()


def hash_of(name: str) -> int:
    """A number that is the same in every process."""
    import hashlib

    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "big")


def drop_cache(paths: list[Path]) -> bool:
    """Flush files and drop them from the page cache, so that loading reads the disk.

    Returns:
        False when the disk is too slow to wait for.
    """
    started = time.perf_counter()
    for path in paths:
        if time.perf_counter() - started > SYNC_LIMIT_S:
            return False
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return True


def set_deterministic(wanted: bool) -> None:
    """What `tabom train` sets, and back."""
    from tabom_cli.core.training.run import set_deterministic as strict

    strict(wanted)
    if not wanted:
        torch.use_deterministic_algorithms(False)
        torch.backends.cuda.enable_cudnn_sdp(True)


def run_tests() -> dict[str, Any]:
    folders = ["tests/core/models", "tests/core/decoding"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *folders]
    command += ["-m", "not slow and not network"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=400, check=False
    )
    print(done.stdout[-4000:], done.stderr[-2000:], flush=True)
    return {"exit_code": done.returncode, "last_line": done.stdout.strip().rpartition("\n")[2]}


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def reset_peak() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak() -> float:
    """Highest GPU memory in GiB that PyTorch reserved since `reset_peak`, the context left out."""
    return torch.cuda.max_memory_reserved() / GIB if torch.cuda.is_available() else 0.0


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_shown(entry)}" for key, entry in value.items())
    if isinstance(value, list):
        return "[" + ", ".join(_shown(entry) for entry in value) + "]"
    return str(value)


if __name__ == "__main__":
    main()
