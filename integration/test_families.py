"""llama.cpp runs what the converter makes of every family's tiny model."""

import math
import random

import families
import pytest

TOO_SMALL = {
    "phi2": "expects 512 rows of ffn_up: four times the width, as every Phi 2 has, but not this one",
    "cohere-qk-norm": "looks for norms of queries and keys in models of 64 layers and more, and this one has 2",
    "olmoe": "norms of keys as wide as the model: OLMoE has as many key heads as query heads, this one half",
    "deepseek-v2-lite": "tells V2-Lite by its 27 layers, and this one has 2",
    "ernie4_5-moe": "the converter takes shared experts for intermediate_size / num_key_value_heads wide",
    "gemma3n": "has Gemma 3n's 256 values per layer in its code, and this one has 8",
    "granitehybrid-dense": "takes feed_forward_length, where this one has a shared_intermediate_size of its own",
    "granitehybrid-attention": "takes feed_forward_length, where this one has a shared_intermediate_size of its own",
    "modernbert": "asks for layer_norm_epsilon, written for a layer_norm_eps, which published models have",
}
"""Models that llama.cpp refuses, whoever converts them, and what it says or why."""
NOT_FINITE = {"gptoss-mxfp4": "random bytes are scales of up to 2**127"}


@pytest.fixture
def gguf(family, tmp_path):
    families.write_checkpoint(
        family, tmp_path / "model"
    )  # the name matters: llama.cpp asks a "phi3" for Phi 3's tokens
    families.write_gguf(tmp_path / "model", tmp_path / "model.gguf", "f16")
    return tmp_path / "model.gguf"


@pytest.mark.parametrize("family", [name for name in families.FAMILIES if name not in TOO_SMALL])
def test_llama_cpp_runs_it(family, gguf, llama_server):
    prompt = random.Random(family).sample(families.TOKENS, 8)
    with families.running(llama_server, gguf, *families.options(family)) as client:
        numbers = (
            families.embedding(client, prompt)
            if families.is_encoder(family)
            else families.next_token(client, prompt)[1]
        )
    assert all(map(math.isfinite, numbers)) is (family not in NOT_FINITE)


@pytest.mark.parametrize("family", TOO_SMALL)
def test_llama_cpp_refuses_what_is_no_real_models_shape(family, gguf, llama_server):
    with (
        pytest.raises(families.Refused, match=r"error loading model"),
        families.running(llama_server, gguf, *families.options(family)),
    ):
        pass


@pytest.mark.parametrize("name", families.kept.GOLDENS)
def test_llama_cpp_runs_what_is_kept_as_the_floats_that_it_was(name, tmp_path, llama_server):
    answers = []
    for outtype in ("keep", "f32"):
        place = tmp_path / outtype
        families.write_kept(name, place / "model")
        families.write_gguf(place / "model", place / "model.gguf", outtype)
        with families.running(llama_server, place / "model.gguf") as client:
            answers.append(families.next_token(client, range(3, 9)))
    assert answers[0][0] == answers[1][0]
    assert answers[0][1] == pytest.approx(answers[1][1], abs=0.05)
