"""A tiny model that talks sense: each token has one successor, and after any prompt it says "Paris." and stops.

Attention and feed-forward are zeros, so that a token's logits depend on that token only: the embeddings are unit
vectors, and each row of the output layer waits for the vector of the token before. It has some 3 million weights, goes
through `ollamaq publish` in seconds, and passes its smoke test on a real server.
"""

import importlib.util
import itertools
import json
from pathlib import Path

import numpy as np

TESTS = Path(__file__).resolve().parent.parent / "tests"
WIDTH = 512
CHAIN = ("\u010a", "Paris", ".", "<|im_end|>")
"""The prompt ends with a line feed, which byte-level BPE writes as the first of these."""


def write_talker(
    directory: Path, *, comment: str = "", template: str = "", context: int = 2048, says: str = ""
) -> Path:
    """Write the model as a Hugging Face directory. A ``comment`` in its chat template makes it another model.

    Whatever a ``template`` of another model ends a prompt with, it answers the same; that is one token with the text
    ``says``, if there is one.
    """
    tiny = _tests("conftest")
    tokens = tiny.tokenizer_json()
    vocabulary = tokens["model"]["vocab"]
    chain = CHAIN
    if says:
        chain = (CHAIN[0], says, CHAIN[-1])
        added = tokens["added_tokens"]
        added.append({**added[0], "id": len(vocabulary), "content": says, "special": False})
        vocabulary = vocabulary | {says: len(vocabulary)}
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": WIDTH,
        "intermediate_size": WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 8,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "vocab_size": len(vocabulary),
        "max_position_embeddings": context,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    settings = {
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "unk_token": "<|endoftext|>",
        "tokenizer_class": "GPT2Tokenizer",
        "chat_template": (f"{{#- {comment} -#}}" if comment else "") + (template or tiny.CHATML),
    }
    directory.mkdir(parents=True)
    files = {"config.json": config, "tokenizer.json": tokens, "tokenizer_config.json": settings}
    for name, content in files.items():
        (directory / name).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    tensors = {}
    for name, shape in tiny.llama_shapes(config).items():
        values = np.ones(shape, np.float32) if name.endswith("norm.weight") else np.zeros(shape, np.float32)
        if name == "model.embed_tokens.weight":
            np.fill_diagonal(values, 1)
        if name == "lm_head.weight":
            values[vocabulary[chain[1]]] = 0.5  # what follows any other token
            for before, after in itertools.pairwise(chain):
                values[vocabulary[after], vocabulary[before]] = 1
        tensors[name] = ("F16", shape, tiny.encode(values, "F16"))
    tiny.save_safetensors(directory / "model.safetensors", tensors)
    return directory


def _tests(name: str):
    spec = importlib.util.spec_from_file_location(f"tests_{name}", TESTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
