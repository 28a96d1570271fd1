"""Writes docs/families.json: whether llama.cpp and transformers mean the same by the tiny models of the tests.

    python docs/measure_families.py [GOLDEN …]

For each golden of ``tests/data/families*.json.gz``: does llama.cpp run our GGUF (F32), and for how many of `PROMPTS`
random prompts is its likeliest next token that of transformers? For development only: needs torch and transformers.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent / "integration"))

import families  # noqa: E402
import parts  # noqa: E402

PROMPTS, LENGTH = 50, 12
NEAR = 1e-4
"""Logarithm of a ratio of probabilities below which two tokens count as equally likely."""


EARLIER = {"num_experts": 4, "rope_theta": 10000.0}
SETTINGS = {
    "gemma2": {"query_pre_attn_scalar": 32},
    "gemma3": {"query_pre_attn_scalar": 32},
    "qwen3moe": EARLIER,
    "qwen3moe-fused": EARLIER,
}
"""What no GGUF says: llama.cpp scales Gemma's heads by their width, which is this number in the real models, but not in
these; and what transformers 5, which made the tiny Qwen3 MoE, has other names for than transformers 4."""


def prompts(name: str) -> list[list[int]]:
    source = random.Random(name)
    return [[source.choice(families.TOKENS) for _ in range(LENGTH)] for _ in range(PROMPTS)]


def theirs(checkpoint: Path, asked: list[list[int]]) -> np.ndarray:
    """Logarithms of probabilities of the next token, by prompt.

    Raises:
        Exception: of any kind; transformers has no such model, or not of these tensors.
    """
    config = transformers.AutoConfig.from_pretrained(checkpoint, trust_remote_code=False)
    known = type(config) in transformers.AutoModelForCausalLM._model_mapping
    auto = transformers.AutoModelForCausalLM if known else transformers.AutoModelForImageTextToText
    model, report = auto.from_pretrained(
        checkpoint,
        dtype=torch.float32,
        attn_implementation="eager",
        output_loading_info=True,
        trust_remote_code=False,
    )
    lost = [key for kind in ("missing_keys", "mismatched_keys") for key in report[kind]]
    if lost:
        raise ValueError(f"transformers has no value for {', '.join(sorted(map(str, lost))[:2])}")
    with torch.no_grad():
        logits = model.eval()(torch.tensor(asked), use_cache=False).logits[:, -1]
    return torch.log_softmax(logits.double(), -1).numpy()


def measure(name: str, server: Path, place: Path) -> dict[str, str | int]:
    families.write_checkpoint(name, place / "model", **SETTINGS.get(name, {}))
    families.write_gguf(place / "model", place / "model.gguf")
    asked = prompts(name)
    try:
        with families.running(server, place / "model.gguf", *families.options(name)) as client:
            if families.is_encoder(name):
                return {"llama.cpp": "runs", "transformers": "an encoder has no next token"}
            ours, likely = zip(*(families.next_token(client, prompt) for prompt in asked), strict=True)
    except families.Refused:
        return {"llama.cpp": "refuses"}
    if not np.isfinite(likely).all():
        return {"llama.cpp": "not finite"}
    try:
        expected = theirs(place / "model", asked)
    except Exception as error:
        print(name, error)
        return {"llama.cpp": "runs", "transformers": "does not run it"}
    chosen = expected[np.arange(PROMPTS), list(ours)]
    return {"llama.cpp": "runs", "top1": int((chosen >= expected.max(-1) - NEAR).sum()), "of": PROMPTS}


def main() -> None:
    server = parts.llamacpp() / "bin" / "llama-server"
    known = json.loads((DOCS / "families.json").read_text()) if sys.argv[1:] else {}
    measured = {name: known[name] for name in families.FAMILIES if name in known}
    for name in sys.argv[1:] or families.FAMILIES:
        with tempfile.TemporaryDirectory() as place:
            measured[name] = measure(name, server, Path(place))
        print(name, measured[name], flush=True)
    (DOCS / "families.json").write_text(json.dumps(measured, indent=1) + "\n")


if __name__ == "__main__":
    main()
