"""Loading whole models: what comes out, and what every kind of damage says."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tabom_cli.core.errors import EXIT_FAILED, EXIT_NOT_READY, EnvironmentNotReady, ModelError
from tabom_cli.core.models.config import LoraConfig, ModelConfig
from tabom_cli.core.models.export import export_model, save_model
from tabom_cli.core.models.load import load_model
from tabom_cli.core.models.lora import trainable_parameters
from tabom_cli.core.models.source import find_source, inspect_checkpoint, known_config

FAMILIES = ["dream", "llada"]
LLADA = "model.transformer"
IDS = torch.arange(4, 16).reshape(2, 6)


def config(folder: Path | str, **options: Any) -> ModelConfig:
    return ModelConfig(path=str(folder), **{"dtype": "float32", **options})


@pytest.mark.parametrize("num_shards", [1, 3])
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_a_folder_loads_with_its_weights_ids_and_tokenizer(
    small_checkpoint: Callable[..., Path], family: str, num_shards: int
) -> None:
    folder = small_checkpoint(family, num_shards=num_shards)
    model = load_model(config(folder))
    stored: dict[str, torch.Tensor] = {}
    for file in folder.glob("*.safetensors"):
        stored |= load_file(file)
    loaded = dict(model.network.named_parameters())
    assert loaded.keys() == stored.keys()
    assert all(torch.equal(loaded[name], stored[name]) for name in stored)
    assert (model.family, model.name, model.revision) == (family, str(folder.resolve()), None)
    assert (model.mask_token_id, model.eos_token_id, model.pad_token_id) == (3, 0, 0)
    assert model.ids.end == ({0, 2} if family == "dream" else {0})
    assert not model.network.training
    assert model.logits(model.hidden(IDS)).shape == (2, 6, 48)
    assert model.tokenizer.padding_side == "left"
    assert str(model.device) == "cpu"


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_attention_back_ends_chosen_by_the_recipe_agree(
    small_checkpoint: Callable[..., Path], family: str
) -> None:
    folder = small_checkpoint(family)
    mask = torch.ones(2, 6, dtype=torch.bool)
    mask[0, :2] = False
    sdpa = load_model(config(folder, attention="sdpa"))
    eager = load_model(config(folder, attention="eager"))
    real = mask & mask.roll(1, 1)
    torch.testing.assert_close(
        sdpa.logits(sdpa.hidden(IDS, mask))[real],
        eager.logits(eager.hidden(IDS, mask))[real],
        atol=1e-5,
        rtol=1e-5,
    )
    assert sdpa.network.config._attn_implementation == "sdpa"
    assert eager.network.config._attn_implementation == "eager"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_weights_arrive_in_the_recipes_dtype(
    small_checkpoint: Callable[..., Path], dtype: str
) -> None:
    folder = small_checkpoint("dream")
    model = load_model(config(folder, dtype=dtype))
    assert {p.dtype for p in model.network.parameters()} == {getattr(torch, dtype)}
    expected = load_file(folder / "model.safetensors")["lm_head.weight"].to(getattr(torch, dtype))
    assert torch.equal(model.network.lm_head.weight, expected)


def test_loaded_weights_do_not_change_the_file(small_checkpoint: Callable[..., Path]) -> None:
    folder = small_checkpoint("dream")
    before = (folder / "model.safetensors").read_bytes()
    model = load_model(config(folder))
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.zero_()
    assert (folder / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize("family", FAMILIES)
def test_random_weights_depend_on_the_seed_alone_and_need_no_weight_file(
    small_checkpoint: Callable[..., Path], family: str
) -> None:
    folder = small_checkpoint(family)
    (folder / "model.safetensors").unlink()

    def weights(seed: int, dtype: str = "float32") -> dict[str, torch.Tensor]:
        torch.manual_seed(torch.seed())
        model = load_model(config(folder, init="random", dtype=dtype), seed=seed)
        return dict(model.network.named_parameters())

    first, again, other, rounded = weights(1), weights(1), weights(2), weights(1, "bfloat16")
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert all(torch.equal(first[name].bfloat16(), rounded[name]) for name in first)
    matrices = [name for name, value in first.items() if value.dim() == 2]
    assert not any(torch.equal(first[name], other[name]) for name in matrices)
    spread = torch.cat([first[name].flatten() for name in matrices]).std()
    assert abs(spread - 0.02) < 1e-3
    norms = [value for name, value in first.items() if "norm" in name or "ln_f" in name]
    assert norms
    assert all(torch.equal(value, torch.ones_like(value)) for value in norms)


def test_a_missing_chat_template_is_named_before_any_weight_is_read(
    small_checkpoint: Callable[..., Path],
) -> None:
    folder = small_checkpoint("dream")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings.pop("chat_template", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    (folder / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ModelError, match=f"{folder}.*no chat template"):
        load_model(config(folder))


def test_random_dream_starts_with_a_zero_padding_row(small_checkpoint: Callable[..., Path]) -> None:
    model = load_model(config(small_checkpoint("dream"), init="random"))
    embedding = model.network.model.embed_tokens.weight
    assert not embedding[0].any()
    assert embedding[1].any()


def test_the_embedded_model_has_a_network_and_a_template() -> None:
    model = load_model(config("tiny", init="random"), lora=LoraConfig(rank=2), seed=0)
    assert (model.name, model.family) == ("tiny", "dream")
    assert inspect_checkpoint("tiny").kind == "base"
    assert trainable_parameters(model.network)


@torch.no_grad()
def test_a_model_with_adapter_knows_both_and_can_switch_it_off(
    small_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    folder = small_checkpoint("dream")
    trained = load_model(config(folder), lora=LoraConfig(rank=4), seed=0)
    for _, parameter in trainable_parameters(trained.network):
        parameter.normal_(generator=torch.Generator().manual_seed(0))
    target = tmp_path / "final"
    target.mkdir()
    save_model(trained, target)
    model = load_model(config(folder, adapter=str(target)))
    assert model.adapter == str(target)
    assert torch.equal(model.hidden(IDS), trained.hidden(IDS))
    with model.adapter_disabled():
        assert torch.equal(model.hidden(IDS), load_model(config(folder)).hidden(IDS))
    info = inspect_checkpoint(str(target))
    assert info.base is not None
    assert Path(info.base) == folder.resolve()
    assert (target / "tokenizer.json").is_file()


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_a_fully_trained_model_saves_and_loads_with_equal_logits(
    small_checkpoint: Callable[..., Path], tmp_path: Path, family: str
) -> None:
    model = load_model(config(small_checkpoint(family)))
    target = tmp_path / "final"
    target.mkdir()
    save_model(model, target)
    again = load_model(config(target))
    assert torch.equal(again.logits(again.hidden(IDS)), model.logits(model.hidden(IDS)))
    assert "auto_map" not in json.loads((target / "config.json").read_text())
    assert again.tokenizer.get_vocab() == model.tokenizer.get_vocab()


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_export_merges_the_adapter_into_a_plain_folder_with_equal_logits(
    small_checkpoint: Callable[..., Path], tmp_path: Path, family: str
) -> None:
    model = load_model(config(small_checkpoint(family)), lora=LoraConfig(rank=4), seed=0)
    for _, parameter in trainable_parameters(model.network):
        parameter.normal_(std=0.3, generator=torch.Generator().manual_seed(0))
    adapted = model.logits(model.hidden(IDS))
    target = tmp_path / "export"
    target.mkdir()
    export_model(model, target)
    assert not (target / "adapter_config.json").exists()
    plain = load_model(config(target))
    torch.testing.assert_close(plain.logits(plain.hidden(IDS)), adapted, atol=1e-4, rtol=1e-4)
    assert inspect_checkpoint(str(target)).kind == "base"


def test_a_published_config_is_known_without_the_network() -> None:
    known = known_config("Dream-org/Dream-v0-Instruct-7B")
    assert known is not None
    assert known["hidden_size"] == 3584
    assert inspect_checkpoint("GSAI-ML/LLaDA-8B-Instruct").family == "llada"
    assert inspect_checkpoint("someone/unknown-model").family is None
    assert known_config("no such thing") is None


def damage(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("model.norm.weight"), r"model\.norm\.weight is missing"),
        (
            lambda t: t.update({"model.layers.9.extra": torch.zeros(2)}),
            r"model\.safetensors: model\.layers\.9\.extra does not belong",
        ),
        (
            lambda t: t.update({"lm_head.weight": torch.zeros(47, 32)}),
            r"model\.safetensors: lm_head\.weight has shape \(47, 32\), config.json asks for \(48, 32\)",
        ),
        (
            lambda t: t["lm_head.weight"].__setitem__((3, 4), float("nan")),
            r"model\.safetensors: lm_head\.weight holds NaN",
        ),
        (
            lambda t: t["model.norm.weight"].__setitem__(0, float("-inf")),
            r"model\.norm\.weight holds NaN or infinity",
        ),
        (
            lambda t: t.update({"model.norm.weight": torch.ones(32, dtype=torch.int64)}),
            r"model\.norm\.weight has type I64",
        ),
    ],
)
def test_damaged_weights_are_refused_with_file_and_tensor(
    small_checkpoint: Callable[..., Path], change: Callable[..., Any], message: str
) -> None:
    folder = small_checkpoint("dream")
    damage(folder, change)
    with pytest.raises(ModelError, match=message) as caught:
        load_model(config(folder))
    assert caught.value.exit_code == EXIT_FAILED


def test_several_faults_are_shown_together(small_checkpoint: Callable[..., Path]) -> None:
    folder = small_checkpoint("dream")

    def change(tensors: dict[str, torch.Tensor]) -> None:
        del tensors["model.norm.weight"]
        tensors["stray"] = torch.zeros(1)

    damage(folder, change)
    with pytest.raises(
        ModelError, match=r"(?s)stray does not belong.*model\.norm\.weight is missing"
    ):
        load_model(config(folder))


def test_a_missing_shard_is_named(small_checkpoint: Callable[..., Path]) -> None:
    folder = small_checkpoint("dream", num_shards=3)
    (folder / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(ModelError, match=r"model-00002-of-00003\.safetensors: file not found"):
        load_model(config(folder))


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_a_truncated_shard_is_named_before_anything_is_read(
    small_checkpoint: Callable[..., Path], keep: int
) -> None:
    folder = small_checkpoint("dream", num_shards=2)
    path = folder / "model-00002-of-00002.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ModelError, match=f"{path.name}: truncated"):
        load_model(config(folder))


def test_a_shard_with_bytes_behind_its_end_is_refused(
    small_checkpoint: Callable[..., Path],
) -> None:
    folder = small_checkpoint("dream")
    with (folder / "model.safetensors").open("ab") as file:
        file.write(b"xx")
    with pytest.raises(ModelError, match=r"model\.safetensors: too long"):
        load_model(config(folder))


def test_a_file_that_is_no_safetensors_is_refused(small_checkpoint: Callable[..., Path]) -> None:
    folder = small_checkpoint("dream")
    (folder / "model.safetensors").write_bytes((20).to_bytes(8, "little") + b"not json at all!!!!!")
    with pytest.raises(ModelError, match="not a safetensors file"):
        load_model(config(folder))


@pytest.mark.parametrize(
    "header",
    [
        [],
        {"a": 5},
        {"a": {"x": 1}},
        {"a": {"dtype": "F32", "shape": ["z"], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0]}},
        {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, "4"]}},
    ],
)
def test_a_header_that_lists_no_tensors_is_the_only_fault(
    small_checkpoint: Callable[..., Path], header: object
) -> None:
    folder = small_checkpoint("dream")
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text)
    with pytest.raises(ModelError, match="its header does not list tensors") as caught:
        load_model(config(folder))
    assert "missing" not in caught.value.message


def test_a_tensor_in_two_shards_is_refused(small_checkpoint: Callable[..., Path]) -> None:
    folder = small_checkpoint("dream", num_shards=2)
    second = folder / "model-00002-of-00002.safetensors"
    tensors = load_file(second) | load_file(folder / "model-00001-of-00002.safetensors")
    save_file(tensors, second)
    with pytest.raises(ModelError, match=r"is also in model-00001-of-00002.safetensors"):
        load_model(config(folder))


def test_a_broken_index_is_named(small_checkpoint: Callable[..., Path]) -> None:
    folder = small_checkpoint("dream", num_shards=2)
    (folder / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(ModelError, match=r"index\.json: not a weight index"):
        load_model(config(folder))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pth"])
def test_pickled_weights_are_refused_with_the_way_to_convert_them(
    small_checkpoint: Callable[..., Path], name: str
) -> None:
    folder = small_checkpoint("dream")
    (folder / "model.safetensors").rename(folder / name)
    with pytest.raises(ModelError, match=name) as caught:
        load_model(config(folder))
    assert "save_file" in str(caught.value.hint)


def convert_as_printed(folder: Path) -> None:
    with pytest.raises(ModelError, match="weights are pickles") as caught:
        load_model(config(folder))
    command = shlex.split(str(caught.value.hint).partition("convert with: ")[2])
    assert command[:2] == ["python", "-c"]
    subprocess.run([sys.executable, *command[1:]], check=True)


@pytest.mark.parametrize("num_files", [1, 2])
def test_the_printed_conversion_merges_all_files_whatever_the_folder_is_called(
    small_checkpoint: Callable[..., Path], num_files: int
) -> None:
    folder = small_checkpoint("dream", name='it\'s "a" folder')
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = list(tensors)
    for index in range(num_files):
        part = {name: tensors[name] for name in names[index::num_files]}
        torch.save(part, folder / f"pytorch_model-{index + 1:05d}-of-{num_files:05d}.bin")
    torch.save({"learning_rate": 1e-4}, folder / "training_args.bin")
    convert_as_printed(folder)
    loaded = dict(load_model(config(folder)).network.named_parameters())
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)


@pytest.mark.parametrize(
    ("family", "tie", "embedding", "head"),
    [
        ("dream", "tie_word_embeddings", "model.embed_tokens.weight", "lm_head.weight"),
        ("llada", "weight_tying", f"{LLADA}.wte.weight", f"{LLADA}.ff_out.weight"),
    ],
)
def test_the_printed_conversion_keeps_a_tied_head_once(
    small_checkpoint: Callable[..., Path], family: str, tie: str, embedding: str, head: str
) -> None:
    folder = small_checkpoint(family, changes={tie: True})
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save({**tensors, head: tensors[embedding]}, folder / "pytorch_model.bin")
    convert_as_printed(folder)
    network = load_model(config(folder)).network
    assert torch.equal(network.get_output_embeddings().weight, tensors[embedding])


def test_a_folder_without_weights_is_refused(small_checkpoint: Callable[..., Path]) -> None:
    folder = small_checkpoint("dream")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="no weights"):
        load_model(config(folder))


def test_a_folder_without_config_says_what_it_holds(
    small_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    folder = small_checkpoint("dream")
    with pytest.raises(ModelError, match=r"config\.json: file not found") as caught:
        load_model(config(tmp_path))
    assert "base" in str(caught.value.hint)
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match=r"config\.json: file not found") as caught:
        load_model(config(folder))
    assert "model.safetensors" in str(caught.value.hint)


def test_an_adapter_given_as_the_model_is_explained(fixtures: Path) -> None:
    with pytest.raises(ModelError) as caught:
        load_model(config(fixtures / "lora" / "dream_gqa"))
    assert "model.adapter" in str(caught.value.hint)


@pytest.mark.parametrize("text", ["{ broken", "[1, 2]", ""])
def test_a_broken_config_is_named(small_checkpoint: Callable[..., Path], text: str) -> None:
    folder = small_checkpoint("dream")
    (folder / "config.json").write_text(text)
    with pytest.raises(ModelError, match=r"config\.json"):
        load_model(config(folder))


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("llada", {"mask_token_id": "5x"}),
        ("llada", {"mask_token_id": -1}),
        ("llada", {"eos_token_id": "abc"}),
        ("llada", {"eos_token_id": []}),
        ("llada", {"eos_token_id": [0, "x"]}),
        ("llada", {"pad_token_id": 1.5}),
        ("llada", {"n_layers": "two", "n_heads": 0}),
        ("llada", {"n_kv_heads": 0}),
        ("llada", {"vocab_size": "40"}),
        ("llada", {"rms_norm_eps": "1e-5"}),
        ("llada", {"rms_norm_eps": None}),
        ("llada", {"rope_theta": "x"}),
        ("llada", {"rope_parameters": "x"}),
        ("llada", {"mlp_ratio": float("nan")}),
        ("llada", {"weight_tying": "yes"}),
        ("dream", {"hidden_size": "a", "rope_theta": 0}),
        ("dream", {"num_attention_heads": 0}),
        ("dream", {"num_hidden_layers": True}),
        ("dream", {"vocab_size": None}),
    ],
)
def test_values_of_a_wrong_type_or_size_are_named_together(
    small_checkpoint: Callable[..., Path], family: str, changes: dict[str, Any]
) -> None:
    folder = small_checkpoint(family)
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**values, **changes}))
    for read in (lambda: load_model(config(folder)), lambda: inspect_checkpoint(str(folder))):
        with pytest.raises(ModelError, match=r"config\.json: not a .* config") as caught:
            read()
        assert all(key in caught.value.message for key in changes)


def test_what_only_transformers_refuses_is_one_sentence_too(
    small_checkpoint: Callable[..., Path],
) -> None:
    for name, changes in (
        ("a", {"torch_dtype": "nonsense"}),
        ("b", {"rope_theta": None, "rope_parameters": {"rope_theta": "x"}}),
    ):
        folder = small_checkpoint("dream", name=name, changes=changes)
        with pytest.raises(ModelError, match=r"config\.json: not a config that transformers"):
            load_model(config(folder))


def test_an_mlp_width_given_by_its_ratio_and_several_end_ids_load(
    small_checkpoint: Callable[..., Path],
) -> None:
    changes = {"mlp_hidden_size": None, "mlp_ratio": 2.5, "eos_token_id": [0, 1]}
    model = load_model(config(small_checkpoint("llada", changes=changes)))
    assert (model.eos_token_id, model.ids.end) == (0, {0, 1})
    assert (80, 32) in {tuple(value.shape) for value in model.network.parameters()}


@pytest.mark.parametrize("model_type", ["llada2_moe", "sdar", "qwen2"])
def test_another_architecture_is_refused_at_load(
    small_checkpoint: Callable[..., Path], model_type: str
) -> None:
    folder = small_checkpoint("dream", changes={})
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**values, "model_type": model_type}))
    with pytest.raises(ModelError, match=f"'{model_type}' is not supported; supported are"):
        load_model(config(folder))


def test_a_path_that_is_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such folder"):
        load_model(config(tmp_path / "nowhere"))
    (tmp_path / "file").write_text("x")
    with pytest.raises(ModelError, match="this is a file"):
        load_model(config(tmp_path / "file"))


def test_an_absent_hub_name_without_network_says_how_to_fetch_it() -> None:
    with pytest.raises(EnvironmentNotReady, match="not in the local cache") as caught:
        find_source("someone/never-published-model")
    assert caught.value.exit_code == EXIT_NOT_READY
    assert "hf download someone/never-published-model" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        ("GatedRepoError", ModelError, "gated"),
        ("RepositoryNotFoundError", ModelError, "no such repository"),
        ("RevisionNotFoundError", ModelError, "no revision 'v1'"),
        ("LocalEntryNotFoundError", EnvironmentNotReady, "not in the local cache"),
    ],
)
def test_hub_answers_become_one_sentence(
    monkeypatch: pytest.MonkeyPatch, error: str, kind: type[Exception], message: str
) -> None:
    import huggingface_hub
    from huggingface_hub import errors

    raised = getattr(errors, error)

    def refuse(*_: object, **__: object) -> str:
        raise raised.__new__(raised)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(kind, match=message):
        find_source("org/name", revision="v1")


def test_a_downloaded_name_keeps_its_commit(
    monkeypatch: pytest.MonkeyPatch, small_checkpoint: Callable[..., Path]
) -> None:
    import huggingface_hub

    folder = small_checkpoint("dream", name="0123abc")
    asked: list[Any] = []

    def download(name: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((name, revision, "*.safetensors" in allow_patterns))
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    model = load_model(config("org/name", revision="main"))
    assert (model.name, model.revision) == ("org/name", "0123abc")
    load_model(config("org/name", init="random"))
    assert asked == [("org/name", "main", True), ("org/name", None, False)]


def test_a_download_without_safetensors_says_that_there_may_be_pickles(
    monkeypatch: pytest.MonkeyPatch, small_checkpoint: Callable[..., Path]
) -> None:
    import huggingface_hub

    folder = small_checkpoint("dream")
    (folder / "model.safetensors").unlink()
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(folder))
    with pytest.raises(ModelError, match=r"org/name: .* no \*\.safetensors files") as caught:
        load_model(config("org/name"))
    assert "hf download org/name --local-dir FOLDER" in str(caught.value.hint)
    assert load_model(config("org/name", init="random")).name == "org/name"
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="weights are pickles"):
        load_model(config("org/name"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mask_token_id": 4}, "mask_token_id is 4 in config.json and 3 in the tokenizer"),
        ({"eos_token_id": 1, "pad_token_id": 1}, "(?s)eos_token_id is 1.*pad_token_id is 1"),
        ({"mask_token_id": 48}, "mask_token_id 48 has no row in the embedding of 48"),
        ({"vocab_size": 20}, "ids up to 26, the embedding 20 rows"),
    ],
)
def test_special_ids_that_differ_from_the_tokenizer_are_refused(
    small_checkpoint: Callable[..., Path], changes: dict[str, int], message: str
) -> None:
    folder = small_checkpoint("dream", changes=changes)
    with pytest.raises(ModelError, match=message):
        load_model(config(folder))


def test_llada_takes_its_mask_id_from_the_config_when_the_tokenizer_declares_none(
    llada_tokenizer: Any,
) -> None:
    from tabom_cli.core.models.checks import check_special_ids
    from tabom_cli.core.models.footprint import PUBLISHED
    from tabom_cli.core.models.llada import END_TOKENS, MASK_TOKEN

    values = PUBLISHED["GSAI-ML/LLaDA-8B-Instruct"]
    options: dict[str, Any] = {
        "source": "llada",
        "mask_token": MASK_TOKEN,
        "end_tokens": END_TOKENS,
        "num_rows": 126464,
    }
    ids = check_special_ids(values, llada_tokenizer, **options)
    assert (ids.mask, ids.eos, ids.pad) == (126336, 126081, 126081)
    assert ids.end == {126081, 126348}
    with pytest.raises(ModelError, match=r"mask_token_id is 5 in config\.json and 126336"):
        check_special_ids({**values, "mask_token_id": 5}, llada_tokenizer, **options)


def test_a_gpu_that_is_not_there_is_not_ready(
    small_checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(EnvironmentNotReady, match="cuda:1 is not there"):
        load_model(config(small_checkpoint("dream")), device="cuda:1")
