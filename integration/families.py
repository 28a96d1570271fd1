"""The tiny models of ``tests/data/families*.json.gz``, made anew and run by the real llama.cpp."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import math
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import httpx
from gguf import GGUFValueType

from ollamaq.checkpoint import open_checkpoint
from ollamaq.gguf.values import Value
from ollamaq.gguf.writer import write
from ollamaq.tokenizers.spec import TokenizerSpec
from ollamaq.tokenizers.vocabulary import vocabulary

TESTS = Path(__file__).resolve().parent.parent / "tests"
SECONDS = 30.0
TOKENS = range(3, 300)
"""Those of the tests' tokenizer that are not special."""

NEAR_ONE = 0x30
"""The code of 0.5 in 8-bit floats; the 15 that follow it reach to 1.875."""

converting = importlib.import_module("ollamaq.convert")


def of_tests(name: str) -> ModuleType:
    """A module of the tests, under a name of its own."""
    spec = importlib.util.spec_from_file_location(f"families_{name}", TESTS / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tiny, goldens, kept = of_tests("conftest"), of_tests("test_families"), of_tests("test_kept")
FAMILIES: dict[str, dict[str, Any]] = goldens.FAMILIES


def tokenizer() -> dict[str, Any]:
    """The tests' own, where tokens that are no whole character are replaced: llama-server keeps those back.

    Two of them are words, which rerankers ask for.
    """
    tokenizer: dict[str, Any] = tiny.tokenizer_json()
    vocab = tokenizer["model"]["vocab"]
    broken = [token for token in vocab if len(token) == 1 and (161 <= ord(token) < 256 or ord(token) > 289)]
    names = {token: f"t{vocab[token]}" for token in broken} | dict(zip(broken, ("yes", "no"), strict=False))
    tokenizer["model"]["vocab"] = {names.get(token, token): i for token, i in vocab.items()}
    return tokenizer


def write_checkpoint(name: str, path: Path, **settings: object) -> None:
    """A family's tiny model with ``settings`` in its config, beside the tests' own tokenizer, whatever its own is."""
    files = FAMILIES[name]["files"] | {
        "tokenizer.json": json.dumps(tokenizer()),
        "tokenizer_config.json": json.dumps({"tokenizer_class": "GPT2Tokenizer", "eos_token": "<|im_end|>"}),
    }
    files["config.json"] = json.dumps(json.loads(files["config.json"]) | settings)
    for file, text in files.items():
        (path / file).parent.mkdir(parents=True, exist_ok=True)
        (path / file).write_text(text)
    tensors = {tensor: tiny.seeded_tensor(tensor, *spec) for tensor, spec in FAMILIES[name]["tensors"].items()}
    tiny.save_safetensors(path / "model.safetensors", tensors)


def write_kept(name: str, path: Path) -> None:
    """The tiny model of a golden in NVFP4, with its scales near 1."""
    golden = kept.GOLDENS[name]
    path.mkdir(parents=True)
    for file, text in golden["files"].items() | {("tokenizer.json", json.dumps(tokenizer()))}:
        (path / file).write_text(text)
    tensors = {tensor: tiny.seeded_tensor(tensor, *spec) for tensor, spec in golden["tensors"].items()}
    for tensor, (dtype, shape, data) in tensors.items():
        if dtype == "F8_E4M3":
            tensors[tensor] = dtype, shape, bytes(NEAR_ONE + byte % 16 for byte in data)
    tiny.save_safetensors(path / "model.safetensors", tensors)


def write_gguf(checkpoint: Path, path: Path, outtype: str = "f32") -> None:
    """Convert a tiny model; its tokenizer is byte-level BPE even where the family's are others."""
    opened = open_checkpoint(checkpoint)
    types = {"tokenizer.ggml.token_type_count": Value(GGUFValueType.UINT32, opened.config.get("type_vocab_size", 2))}
    spec = TokenizerSpec()  # encoders' own tokenizers give the number of token types; llama.cpp asks no others for it
    with patch.object(converting, "vocabulary", lambda _, size, *__, **___: vocabulary(opened, size, spec) | types):
        write(path, converting.convert(opened, outtype))


def is_encoder(name: str) -> bool:
    """Whether the model gives no next token, but a vector."""
    return any(part in name.lower() for part in ("bert", "embedding", "rerank"))


def options(name: str) -> list[str]:
    """Of llama-server, for a golden's model."""
    return ["--embedding"] if is_encoder(name) else []


class Refused(Exception):
    """llama.cpp does not run a model; the message is its log."""


@contextlib.contextmanager
def running(llama_server: Path, gguf: Path, *more: str) -> Iterator[httpx.Client]:
    """llama.cpp with a model, in full precision throughout.

    Raises:
        Refused: it ended instead.
    """
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    exact = ("-ctk", "f32", "-ctv", "f32", "-fa", "off", "-c", "512", "-np", "1", "-t", "1", "--no-warmup")
    line = [llama_server, "-m", gguf, "--port", str(port), *exact, *more]
    log = gguf.with_suffix(".log")
    with log.open("wb") as output:
        server = subprocess.Popen(line, stdout=output, stderr=output)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=SECONDS) as client:
            deadline = time.monotonic() + SECONDS
            while time.monotonic() < deadline:
                if server.poll() is not None:
                    raise Refused(log.read_text(errors="replace"))
                with contextlib.suppress(httpx.TransportError):
                    if client.get("/health").is_success:
                        break
                time.sleep(0.02)
            try:
                yield client
            except httpx.TransportError as error:
                raise Refused(log.read_text(errors="replace")) from error
    finally:
        server.kill()
        server.wait()


def next_token(client: httpx.Client, prompt: Sequence[int]) -> tuple[int, list[float]]:
    """The likeliest token after a prompt, and the logarithms of the ten likeliest's probabilities.

    Raises:
        ValueError: llama.cpp answers with an error.
    """
    request = {"prompt": list(prompt), "n_predict": 1, "temperature": 0, "n_probs": 10, "cache_prompt": False}
    answer = client.post("/completion", json=request).json()
    if "completion_probabilities" not in answer:
        raise ValueError(answer)
    likeliest = answer["completion_probabilities"][0]["top_logprobs"]
    return likeliest[0]["id"], [math.nan if token["logprob"] is None else token["logprob"] for token in likeliest]


def embedding(client: httpx.Client, prompt: Sequence[int]) -> list[float]:
    """What an encoder makes of a prompt."""
    answer = client.post("/embeddings", json={"content": list(prompt)}).json()
    vector = answer[0]["embedding"]
    return vector[0] if isinstance(vector[0], list) else vector
