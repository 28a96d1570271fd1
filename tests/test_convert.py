"""A checkpoint becomes what llama.cpp's converter makes of it.

``data/converted.json.gz`` and ``data/metadata.json.gz`` hold what ``convert_hf_to_gguf.py`` b11434 wrote (transformers
4.57.6, outtype f16): whole models with Llama 3's tokenizer (``data/llama-bpe.json.xz``), and the metadata of variations
of the tiny checkpoint.
"""

import gzip
import hashlib
import json
import lzma
import re
import zlib
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from gguf import GGUFValueType
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ollamaq.architectures.family import with_row_order
from ollamaq.architectures.general import read_overrides
from ollamaq.checkpoint import open_checkpoint
from ollamaq.convert import convert, native_outtype
from ollamaq.errors import ModelRefused, UsageError
from ollamaq.gguf.reader import read_gguf
from ollamaq.gguf.writer import write
from ollamaq.tensors import CASTS, Tensor, to_float32

DATA = Path(__file__).parent / "data"
CONVERTED = json.loads(gzip.decompress((DATA / "converted.json.gz").read_bytes()))
METADATA = json.loads(gzip.decompress((DATA / "metadata.json.gz").read_bytes()))


def plain(value):
    """A metadata value as the goldens have it: float32 as Python's float, long lists by their hash."""
    if value.type is GGUFValueType.FLOAT32:
        return float(np.float32(value.value))
    if value.type is GGUFValueType.ARRAY and len(value.value) > 64:
        text = json.dumps(value.value, ensure_ascii=False)
        return {"len": len(value.value), "sha256": hashlib.sha256(text.encode()).hexdigest()}
    return value.value


def rows(tensor):
    return np.ascontiguousarray(tensor.rows(0, tensor.n_rows))


def seeded(name, shape):
    """BF16 weights from a seed of the tensor's name."""
    values = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode()))).standard_normal(shape, dtype=np.float32)
    bits = (values * np.float32(0.05)).view(np.uint32)
    return "BF16", shape, ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16).tobytes()


@pytest.fixture(scope="module")
def llama_bpe():
    return json.loads(lzma.decompress((DATA / "llama-bpe.json.xz").read_bytes()))


@pytest.mark.parametrize("name", CONVERTED)
def test_model_equals_the_converters_key_by_key_and_byte_by_byte(name, llama_bpe, write_safetensors, tmp_path):
    spec, gold = CONVERTED[name]["spec"], CONVERTED[name]["gold"]
    path = tmp_path / name
    path.mkdir()
    for file, text in (spec["files"] | {file: json.dumps(content) for file, content in llama_bpe.items()}).items():
        (path / file).write_text(text, encoding="utf-8")
    write_safetensors(path / "model.safetensors", {n: seeded(n, shape) for n, (_, shape) in spec["tensors"].items()})
    model = convert(open_checkpoint(path), "f16")
    assert list(model.metadata) == list(gold["kv"])
    assert {key: plain(value) for key, value in model.metadata.items()} == gold["kv"]
    assert [tensor.name for tensor in model.tensors] == gold["order"]
    for tensor in model.tensors:
        made = {"shape": list(tensor.shape[::-1]), "type": tensor.type.name}
        assert made | {"sha256": hashlib.sha256(rows(tensor)).hexdigest()} == gold["tensors"][tensor.name], tensor.name


@pytest.mark.parametrize("name", METADATA)
def test_metadata_equals_the_converters(name, tiny_checkpoint):
    entry = METADATA[name]
    path = tiny_checkpoint(name, **entry["make"])
    for file, text in entry["files"].items():
        (path / file).parent.mkdir(exist_ok=True)
        (path / file).write_text(text)
    metadata = convert(open_checkpoint(path), "f16").metadata
    made = [[k, v.type.name, v.element.name if v.element is not None else None, plain(v)] for k, v in metadata.items()]
    expected = [
        [key, kind, element, float(np.float32(value)) if kind == "FLOAT32" else value]
        for key, kind, element, value in entry["expected"]
    ]
    assert made == expected


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
@pytest.mark.parametrize("outtype", ["auto", "bf16", "f16", "f32"])
def test_matrices_get_the_outtype_and_vectors_f32(dtype, outtype, tiny_checkpoint):
    checkpoint = open_checkpoint(tiny_checkpoint(dtype=dtype))
    matrices = {"auto": "F16" if dtype == "F32" else dtype}.get(outtype, outtype.upper())
    for tensor in convert(checkpoint, outtype).tensors:
        assert tensor.type is (Type[matrices] if len(tensor.shape) > 1 else Type.F32)
    assert native_outtype(checkpoint) == dtype.lower()


def test_native_outtype_loses_nothing(tiny_checkpoint):
    checkpoint = open_checkpoint(tiny_checkpoint())
    model = convert(checkpoint, native_outtype(checkpoint))
    embedding = next(tensor for tensor in model.tensors if tensor.name == "token_embd.weight")
    assert (rows(embedding) == rows(checkpoint.tensors["model.embed_tokens.weight"])).all()


def test_rounding_to_bf16_is_to_nearest_even_and_keeps_nan():
    values = np.array([1.0, 1.00390625, 1.01171875, -3.4e38, np.inf, np.nan], np.float32)
    rounded = to_float32(CASTS[Type.BF16](values))
    assert rounded[:3].tolist() == [1.0, 1.0, 1.015625]
    assert rounded[4] == np.inf
    assert np.isnan(rounded[5])


@pytest.mark.parametrize(("heads", "name"), [(4, "q_proj"), (2, "k_proj")])
def test_rotary_halves_become_pairs(heads, name, tiny_checkpoint):
    checkpoint = open_checkpoint(tiny_checkpoint())
    before = rows(checkpoint.tensors[f"model.layers.0.self_attn.{name}.weight"])
    model = convert(checkpoint, "bf16")
    after = next(tensor for tensor in model.tensors if tensor.name == f"blk.0.attn_{name[0]}.weight")
    wanted = before.reshape(heads, 2, 32, 256).swapaxes(1, 2).reshape(before.shape)
    assert (rows(after) == wanted).all()
    pieces = [after.rows(at, min(at + 37, after.n_rows)) for at in range(0, after.n_rows, 37)]
    assert (np.concatenate(pieces) == wanted).all()


def test_a_bias_is_reordered_too():
    values = np.arange(6, dtype=np.float32)
    bias = Tensor("bias", Type.F32, (6,), lambda start, stop: values.reshape(1, -1)[start:stop])
    assert with_row_order(bias, np.array([0, 3, 1, 4, 2, 5])).rows(0, 1).tolist() == [[0, 3, 1, 4, 2, 5]]


def test_tensors_come_sorted_by_name_within_each_shard(tiny_checkpoint):
    checkpoint = open_checkpoint(tiny_checkpoint(config={"num_hidden_layers": 11}))
    names = [tensor.name for tensor in convert(checkpoint, "bf16").tensors]
    assert names[0] == "token_embd.weight"
    first = [int(name.split(".")[1]) for name in names if name.endswith("attn_norm.weight")]
    assert first == [0, 1, 10, 2, 3, 4, 5, 6, 7, 8, 9]


def test_what_is_written_reads_back_the_same(tiny_checkpoint, tmp_path):
    model = convert(open_checkpoint(tiny_checkpoint()), "bf16")
    size = write(tmp_path / "model.gguf", model)
    assert size == (tmp_path / "model.gguf").stat().st_size
    again = read_gguf(tmp_path / "model.gguf")
    assert list(again.metadata) == list(model.metadata)
    for key, value in model.metadata.items():
        assert plain(again.metadata[key]) == plain(value)
    for ours, theirs in zip(again.tensors, model.tensors, strict=True):
        assert (ours.name, ours.type, ours.shape) == (theirs.name, theirs.type, theirs.shape)
        assert rows(ours).tobytes() == rows(theirs).tobytes()


def test_pre_tokenizer_can_be_named(tiny_checkpoint):
    path = tiny_checkpoint(tokenizer={"pre_tokenizer": {"type": "Whitespace"}})
    with pytest.raises(ModelRefused, match=r"tokenizer\.json is BPE without byte level or byte fallback"):
        convert(open_checkpoint(path), "f16")
    metadata = convert(open_checkpoint(path), "f16", pre="falcon").metadata
    assert metadata["tokenizer.ggml.pre"].value == "falcon"


def test_a_pre_tokenizer_that_llama_cpp_does_not_know_is_refused(tiny_checkpoint):
    with pytest.raises(UsageError, match="unknown pre-tokenizer 'lama-bpe'") as refused:
        convert(open_checkpoint(tiny_checkpoint()), "f16", pre="lama-bpe")
    assert "llama-bpe" in refused.value.next_step


SPLIT = {"type": "Split", "behavior": "Isolated", "invert": False}
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def regex(pattern):
    return {
        "type": "Sequence",
        "pretokenizers": [SPLIT | {"pattern": {"Regex": pattern}}, BYTES | {"use_regex": False}],
    }


@pytest.mark.parametrize(
    ("pre_tokenizer", "ignore_merges", "name"),
    [
        (regex(LLAMA3), True, "llama-bpe"),
        (regex(LLAMA3), False, "smaug-bpe"),
        (regex(LLAMA3.replace("{1,3}", "")), False, "qwen2"),
        (BYTES | {"use_regex": True}, False, "gpt-2"),
        (
            {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, BYTES]},
            False,
            "smollm",
        ),
    ],
)
def test_pre_tokenizer_is_recognised_by_its_structure(pre_tokenizer, ignore_merges, name, tiny_checkpoint):
    path = tiny_checkpoint(tokenizer={"pre_tokenizer": pre_tokenizer})
    tokenizer = json.loads((path / "tokenizer.json").read_text())
    tokenizer["model"]["ignore_merges"] = ignore_merges
    (path / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert convert(open_checkpoint(path), "f16").metadata["tokenizer.ggml.pre"].value == name


def broken_tokenizer(**model):
    return {"tokenizer": {"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []} | model}}


@pytest.mark.parametrize(
    ("make", "said"),
    [
        ({"config": {"architectures": ["LlamoForCausalLM"]}}, r"config\.json has architecture 'LlamoForCausalLM'"),
        ({"config": {"architectures": None}}, r"config\.json names no architecture"),
        ({"config": {"num_hidden_layers": 3}}, r"tiny lacks 9 of the tensors .* such as 'blk\.2\.attn_norm\.weight'"),
        ({"config": {"num_hidden_layers": 10**9}}, r"num_hidden_layers = 1000000000, and there are 20 tensors"),
        ({"config": {"num_hidden_layers": 1}}, r"'model\.layers\.1\..*' of shape|'model\.layers\.1\..*no place"),
        ({"config": {"num_attention_heads": 0}}, r"config\.json has num_attention_heads = 0"),
        ({"config": {"num_attention_heads": "4"}}, r"config\.json has num_attention_heads = '4'"),
        ({"config": {"hidden_size": 128}}, r"'model\.embed_tokens\.weight' of shape \[300, 256\].* means \[300, 128\]"),
        ({"config": {"vocab_size": 299}}, r"'model\.embed_tokens\.weight' of shape \[300, 256\].* means \[299, 256\]"),
        ({"config": {"rms_norm_eps": "small"}}, r"attention\.layer_norm_rms_epsilon the value 'small'"),
        ({"config": {"rope_scaling": {"type": "llama3", "factor": "8"}}}, r"config\.json is damaged: .*rope's factor"),
        ({"config": {"rope_scaling": {"type": "yarn", "factor": 2.0}}}, r"original_max_position_embeddings"),
        ({"config": {"rope_scaling": 7}}, r"config\.json is damaged"),
        ({"generation_config": {"top_k": 0.5}}, r"general\.sampling\.top_k the value 0\.5"),
        ({"tokenizer": {"model": None}}, r"has a nameless tokenizer in tokenizer\.json; this family takes"),
        (
            broken_tokenizer(type="Unigram"),
            r"has a Unigram tokenizer in tokenizer\.json; this family takes tekken",
        ),
        (broken_tokenizer(vocab={"far": 300}), r"has token 'far' at 300, and the embedding has 300 rows"),
        (broken_tokenizer(vocab={"a": -1, "b": 2}), r"tokenizer\.json is damaged"),
        (broken_tokenizer(vocab=["a"]), r"tokenizer\.json is damaged"),
        (broken_tokenizer(merges=[1]), r"tokenizer\.json is damaged"),
        (broken_tokenizer(vocab={"\ud800": 0}), r"gives tokenizer\.ggml\.tokens the value"),
        ({"tokenizer": {"added_tokens": [{"id": 0}]}}, r"tokenizer\.json is damaged"),
        ({"tokenizer": {"post_processor": {"type": "TemplateProcessing", "single": 3}}}, r"tokenizer\.json is damaged"),
    ],
)
def test_a_model_that_does_not_hold_together_is_refused_before_anything_is_written(make, said, tiny_checkpoint):
    path = tiny_checkpoint()
    patch = {"config": "config.json", "generation_config": "generation_config.json", "tokenizer": "tokenizer.json"}
    for argument, changes in make.items():
        file = path / patch[argument]
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    with pytest.raises(ModelRefused, match=said) as refused:
        convert(open_checkpoint(path), "f16", pre="smollm")
    assert "\n" not in str(refused.value)
    assert str(path) in str(refused.value)
    assert refused.value.next_step


def test_the_nearest_architectures_are_named(tiny_checkpoint):
    with pytest.raises(ModelRefused) as refused:
        convert(open_checkpoint(tiny_checkpoint(config={"architectures": ["LlammaForCausalLM"]})), "f16")
    assert "LlamaForCausalLM" in refused.value.next_step


def test_two_names_for_one_tensor_are_refused(tiny_checkpoint, write_safetensors):
    path = tiny_checkpoint()
    tensors = {"model.norm.weight": ("BF16", (256,), bytes(512)), "norm.weight": ("BF16", (256,), bytes(512))}
    write_safetensors(path / "model.safetensors", {**saved(path), **tensors})
    with pytest.raises(
        ModelRefused, match=r"has 'model\.norm\.weight' and 'norm\.weight', which are both 'output_norm"
    ):
        convert(open_checkpoint(path), "f16")


def test_a_tensor_of_no_known_place_is_refused_and_buffers_are_left_out(tiny_checkpoint, write_safetensors):
    path = tiny_checkpoint()
    buffer = {"model.layers.0.self_attn.rotary_emb.inv_freq": ("F32", (32,), bytes(128))}
    write_safetensors(path / "model.safetensors", saved(path) | buffer)
    assert len(convert(open_checkpoint(path), "f16").tensors) == 20
    adapter = {"base_model.model.lora_A.weight": ("F32", (4, 4), bytes(64))}
    write_safetensors(path / "model.safetensors", saved(path) | adapter)
    with pytest.raises(ModelRefused, match=r"has tensor 'base_model\.model\.lora_A\.weight', which has no place"):
        convert(open_checkpoint(path), "f16")


def saved(path):
    tensors = open_checkpoint(path).tensors
    return {name: (tensor.type.name, tensor.shape, rows(tensor).tobytes()) for name, tensor in tensors.items()}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=5,
)
PLACES = (
    ("config.json", "head_dim"),
    ("config.json", "num_key_value_heads"),
    ("config.json", "rope_scaling"),
    ("config.json", "rope_scaling", "factor"),
    ("config.json", "rope_scaling", "low_freq_factor"),
    ("config.json", "rope_scaling", "original_max_position_embeddings"),
    ("config.json", "rope_scaling", "rope_theta"),
    ("config.json", "rope_scaling", "rope_type"),
    ("config.json", "rope_theta"),
    ("config.json", "rms_norm_eps"),
    ("config.json", "architectures"),
    ("config.json", "_name_or_path"),
    ("config.json", "max_position_embeddings"),
    ("config.json", "eos_token_id"),
    ("generation_config.json", "temperature"),
    ("tokenizer.json", "added_tokens"),
    ("tokenizer.json", "post_processor"),
    ("tokenizer.json", "pre_tokenizer"),
    ("tokenizer.json", "normalizer"),
    ("tokenizer.json", "model"),
    ("tokenizer_config.json", "eos_token"),
    ("tokenizer_config.json", "chat_template"),
    ("tokenizer_config.json", "added_tokens_decoder"),
    ("tokenizer_config.json", "additional_special_tokens"),
    ("tokenizer_config.json", "add_bos_token"),
    ("tokenizer_config.json", "add_prefix_space"),
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.sampled_from(PLACES), value=JSON)
def test_any_value_anywhere_is_converted_or_refused(place, value, tiny_checkpoint, tmp_path):
    path = tmp_path / "tiny"
    if not path.exists():
        tiny_checkpoint()
    file, key = path / place[0], place[1]
    before, said = file.read_text(encoding="utf-8"), ""
    for part in place[:1:-1]:
        value = {"rope_type": "llama3", part: value}
    try:
        file.write_text(json.dumps(json.loads(before) | {key: value}))
        write(tmp_path / "out.gguf", convert(open_checkpoint(path), "f16"))
    except ModelRefused as refused:
        said = str(refused)
    finally:
        file.write_text(before, encoding="utf-8")
    assert "\n" not in said


BY_HAND = {
    "general.name": "Ours",
    "general.author": "Zoë",
    "general.license": "mit",
    "general.tags": ["a", "b"],
    "general.languages": ["en"],
    "general.base_models": [{"name": "Base", "organization": "Org", "repo_url": "https://example.org/org/base"}],
    "general.datasets": [],
    "general.sampling.temp": 0.75,
    "general.sampling.top_k": 7,
    "general.quantized_by": "us",
}


@pytest.mark.parametrize(
    "chosen", [list(BY_HAND), ["general.base_models"], ["general.author", "general.sampling.temp"]]
)
def test_keys_by_hand_reach_the_metadata_as_gguf_py_sets_them(chosen, tiny_checkpoint, tmp_path):
    path = tiny_checkpoint()
    (path / "README.md").write_text("---\nlicense: apache-2.0\nbase_model: org/other-7b\nlanguage: [de]\n---\n")
    file = tmp_path / "metadata.json"
    file.write_text(json.dumps({key: BY_HAND[key] for key in chosen}), encoding="utf-8")
    made = convert(open_checkpoint(path), "f16", overrides=read_overrides(file)).metadata
    writer = gguf.GGUFWriter(None, "llama")
    expected = gguf.Metadata.load(file, path, None, 1)
    if "general.license" in chosen:
        expected.license = "mit"  # gguf-py has no override of it
    expected.size_label = made["general.size_label"].value
    expected.set_gguf_meta_model(writer)
    ours = {"general.type", "general.file_type", "general.quantization_version"}
    general = {key: plain(value) for key, value in made.items() if key.startswith("general.") and key not in ours}
    assert {key: plain(value) for key, value in writer.kv_data[0].items()} == general


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "holds no object"),
        ("{", "cannot read"),
        ('{"general.autor": "x"}', "did you mean general.author?"),
        ('{"general.tags": "x"}', "general.tags cannot be 'x'"),
        ('{"general.name": 3}', "general.name cannot be 3"),
        ('{"general.sampling.top_k": true}', "cannot be True"),
        ('{"general.sampling.top_k": 99999999999}', "cannot be 99999999999"),
        ('{"general.base_models": [{"name": []}]}', "general.base_models cannot be"),
    ],
)
def test_keys_by_hand_that_cannot_be_used_are_refused(text, said, tmp_path):
    file = tmp_path / "metadata.json"
    file.write_text(text)
    with pytest.raises(UsageError, match=re.escape(said)) as refused:
        read_overrides(file)
    assert "metadata.json" in str(refused.value)


CARD = ("name", "version", "license", "tags", "language", "base_model", "datasets", "model_type", "size_label")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(card=st.dictionaries(st.sampled_from(CARD), JSON, min_size=1, max_size=2))
def test_any_model_card_is_converted_or_refused(card, tiny_checkpoint, tmp_path):
    path = tmp_path / "tiny"
    if not path.exists():
        tiny_checkpoint()
    (path / "README.md").write_text(f"---\n{json.dumps(card)}\n---\n")
    said = ""
    try:
        write(tmp_path / "out.gguf", convert(open_checkpoint(path), "f16"))
    except ModelRefused as refused:
        said = str(refused)
    assert "\n" not in said
