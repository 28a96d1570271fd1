"""A tiny model directory of our own making, so that no test needs a real one."""

import json
import os
import struct
import zlib

import numpy as np
import pytest
from gguf import GGUFValueType
from hypothesis import settings

# The same examples in every run; HYPOTHESIS_PROFILE=default looks for new ones.
settings.register_profile("steady", derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
BYTES = {"U8": 255, "F8_E4M3": 127}
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MERGES = """
Ġ t,Ġ a,i n,h e,r e,o n,e r,Ġt he,a t,Ġ s,Ġ o,e n,Ġ c,i t,i s,o r,e s,a n,Ġ f,Ġ p,in g,o u,Ġa n,a l,Ġan d,a r,Ġ w,
Ġ b,e d,Ġ in,Ġ m,Ġo f,Ġ d,i c,Ġt o,l e,P ar,Par is,i on,a s,r o
""".replace("\n", "").split(",")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """No test reads or fills the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def byte_letters():
    """The 256 characters that stand for bytes in byte-level BPE (GPT-2's ``bytes_to_unicode``)."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in plain]
    return [chr(byte) for byte in plain] + [chr(256 + i) for i in range(len(others))]


def tokenizer_json():
    tokens = [*SPECIAL, *byte_letters(), *(merge.replace(" ", "") for merge in MERGES)]
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": i, "content": text, **plain} for i, text in enumerate(SPECIAL)],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [{"type": "Digits", "individual_digits": True}, byte_level],
        },
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: i for i, token in enumerate(tokens)},
            "merges": MERGES,
        },
    }


def llama_shapes(config):
    """Name and shape of every tensor of a llama with this config."""
    width, inner = config["hidden_size"], config["intermediate_size"]
    head = config["head_dim"] or width // config["num_attention_heads"]
    q, kv = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    shapes = {"model.embed_tokens.weight": (config["vocab_size"], width), "model.norm.weight": (width,)}
    for i in range(config["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        shapes |= {
            layer + "input_layernorm.weight": (width,),
            layer + "self_attn.q_proj.weight": (q, width),
            layer + "self_attn.k_proj.weight": (kv, width),
            layer + "self_attn.v_proj.weight": (kv, width),
            layer + "self_attn.o_proj.weight": (width, q),
            layer + "post_attention_layernorm.weight": (width,),
            layer + "mlp.gate_proj.weight": (inner, width),
            layer + "mlp.up_proj.weight": (inner, width),
            layer + "mlp.down_proj.weight": (width, inner),
        }
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (config["vocab_size"], width)
    return shapes


def encode(values, dtype):
    """Float32 values as the bytes of a safetensors dtype (BF16 rounds to nearest, ties to even)."""
    if dtype == "BF16":
        bits = values.view(np.uint32)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16).tobytes()
    return values.astype({"F16": np.float16, "F32": np.float32}[dtype]).tobytes()


def save_safetensors(path, tensors):
    """Write ``{name: (dtype, shape, bytes)}`` as a safetensors file."""
    header, place = {"__metadata__": {"format": "pt"}}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [place, place + len(data)]}
        place += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data for _, _, data in tensors.values()))


def seeded_tensor(name, dtype, shape):
    """A tensor of a golden: weights from a seed of its name; 8-bit floats are scales, so not negative."""
    random = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    if dtype in BYTES:
        return dtype, shape, random.integers(0, BYTES[dtype], shape, dtype=np.uint8).tobytes()
    return dtype, shape, encode(random.standard_normal(shape, dtype=np.float32) * np.float32(0.05), dtype)


def plain_value(value):
    """A value of metadata as goldens have it in JSON."""
    if GGUFValueType.FLOAT32 in (value.type, value.element):
        return np.float32(value.value).tolist()
    return value.value


@pytest.fixture
def write_safetensors():
    return save_safetensors


@pytest.fixture
def seeded():
    return seeded_tensor


@pytest.fixture
def plain():
    return plain_value


@pytest.fixture
def tiny_checkpoint(tmp_path):
    """A factory of tiny llama directories: random weights, 300 tokens of byte-level BPE, a ChatML template.

    ``config``, ``generation_config``, ``tokenizer`` and ``tokenizer_config`` are merged over what is written otherwise;
    ``shards`` splits the weights over so many files with an index.
    """

    def make(
        name="tiny",
        *,
        config=None,
        generation_config=None,
        tokenizer=None,
        tokenizer_config=None,
        dtype="BF16",
        shards=1,
        without_template=False,
    ):
        tokens = tokenizer_json() | (tokenizer or {})
        config = {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": 256,
            "intermediate_size": 256,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 64,
            "vocab_size": 300,
            "max_position_embeddings": 512,
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "hidden_act": "silu",
            "tie_word_embeddings": True,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 2,
        } | (config or {})
        files = {
            "config.json": config,
            "generation_config.json": {"bos_token_id": 1, "eos_token_id": 2, "temperature": 0.2, "top_p": 0.9}
            | (generation_config or {}),
            "tokenizer.json": tokens,
            "tokenizer_config.json": {
                "add_prefix_space": False,
                "bos_token": "<|im_start|>",
                "eos_token": "<|im_end|>",
                "pad_token": "<|im_end|>",
                "unk_token": "<|endoftext|>",
                "tokenizer_class": "GPT2Tokenizer",
            }
            | ({} if without_template else {"chat_template": CHATML})
            | (tokenizer_config or {}),
        }
        path = tmp_path / name
        path.mkdir()
        for file, content in files.items():
            (path / file).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
        random = np.random.default_rng(2026)
        tensors = {
            tensor: (dtype, shape, encode(0.05 * random.standard_normal(shape, dtype=np.float32), dtype))
            for tensor, shape in llama_shapes(config).items()
        }
        if shards == 1:
            save_safetensors(path / "model.safetensors", tensors)
            return path
        where = {tensor: f"model-{i % shards + 1:05}-of-{shards:05}.safetensors" for i, tensor in enumerate(tensors)}
        for shard in set(where.values()):
            save_safetensors(path / shard, {n: tensors[n] for n in tensors if where[n] == shard})
        index = {"metadata": {}, "weight_map": where}
        (path / "model.safetensors.index.json").write_text(json.dumps(index))
        return path

    return make
