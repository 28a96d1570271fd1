"""The bytes of ``ollamaq quantize`` are those of llama.cpp's own ``llama-quantize``."""

import filecmp
import hashlib
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import gguf
import numpy as np
import pytest

from ollamaq.gguf.reader import read_gguf
from ollamaq.quantize import find_mix, make_plan, write_plan

MIXES = ("F16", "BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q4_K_M", "Q4_K_S")
I_QUANTS = ("IQ4_XS", "IQ3_M", "IQ3_XS", "IQ3_XXS", "IQ2_M", "IQ2_S", "IQ2_XS", "IQ2_XXS", "IQ1_M", "IQ1_S", "Q2_K_S")
LOW_BIT = ("Q3_K_S", "Q3_K_M", "Q3_K_L", "Q2_K", "Q2_0", "MXFP4_MOE", "TQ1_0", "TQ2_0")
RARER = ("Q5_0", "Q5_1", "Q4_0", "Q4_1", "IQ4_NL", *LOW_BIT)


def run(*arguments: object) -> None:
    subprocess.run([str(argument) for argument in arguments], check=True, capture_output=True, text=True)


def ollamaq(*arguments: object) -> None:
    run(sys.executable, "-m", "ollamaq", *arguments, "--quiet")


@pytest.fixture(scope="session", params=[768, 576], ids=["k-quants", "fall-backs"])
def checkpoint(request, smollm2) -> Path:
    return smollm2(request.param)


@pytest.fixture(scope="session", params=["f16", "bf16"])
def converted(request, checkpoint, tmp_path_factory) -> tuple[str, Path]:
    path = tmp_path_factory.mktemp("converted") / f"{request.param}.gguf"
    ollamaq("convert", checkpoint, path, "--outtype", request.param)
    return request.param, path


@pytest.mark.parametrize("mix", MIXES)
def test_quantized_file_equals_llama_quantize(mix, converted, checkpoint, llama_quantize, tmp_path):
    outtype, source = converted
    theirs, ours, direct = (tmp_path / name for name in ("theirs.gguf", "ours.gguf", "direct.gguf"))
    run(llama_quantize, source, theirs, mix, 2)
    ollamaq("quantize", source, ours, "--q", mix)
    assert filecmp.cmp(ours, theirs, shallow=False)
    if outtype == "bf16":  # what the checkpoint holds, so that nothing lies between it and the file
        ollamaq("quantize", checkpoint, direct, "--q", mix)
        assert filecmp.cmp(direct, theirs, shallow=False)


@pytest.mark.parametrize("converted", ["bf16"], indirect=True)
@pytest.mark.parametrize("mix", RARER)
def test_file_in_a_rarer_mix_equals_llama_quantize(mix, converted, llama_quantize, tmp_path):
    theirs, ours = tmp_path / "theirs.gguf", tmp_path / "ours.gguf"
    run(llama_quantize, converted[1], theirs, mix, 2)
    ollamaq("quantize", converted[1], ours, "--q", mix)
    assert filecmp.cmp(ours, theirs, shallow=False)


def test_the_number_of_threads_changes_no_byte(smollm2, tmp_path):
    digests = set()
    for threads in (1, 2, 7):
        ollamaq("quantize", smollm2(768), tmp_path / "out.gguf", "--q", "Q4_K_M", "--threads", threads)
        digests.add(hashlib.sha256((tmp_path / "out.gguf").read_bytes()).hexdigest())
    assert len(digests) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_quantization_leaves_nothing(number, smollm2, tmp_path):
    command = [sys.executable, "-m", "ollamaq", "quantize", str(smollm2(768)), str(tmp_path / "out.gguf"), "-t", "1"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not any(tmp_path.iterdir()):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert not list(tmp_path.iterdir())


def legacy_imatrix(path: Path, model, experts: int) -> None:
    """An importance matrix in llama.cpp's older format, with random weights for every matrix of the layers."""
    random = np.random.default_rng(2028)
    entries = [tensor for tensor in model.tensors if tensor.name.startswith("blk.") and len(tensor.shape) > 1]
    with path.open("wb") as file:
        file.write(struct.pack("<i", len(entries)))
        for tensor in entries:
            values = random.random(tensor.row * (experts if len(tensor.shape) > 2 else 1), dtype=np.float32)
            name = tensor.name.encode()
            file.write(
                struct.pack("<i", len(name)) + name + struct.pack("<ii", 3, values.size) + (values * 3).tobytes()
            )
        file.write(struct.pack("<ii", 11, 8) + b"wiki.txt")


@pytest.mark.parametrize("experts", [0, 4])
def test_an_importance_matrix_is_applied_as_llama_quantize_applies_it(experts, llama_quantize, tmp_path):
    source, theirs, ours, imatrix = (tmp_path / name for name in ("s.gguf", "theirs.gguf", "ours.gguf", "im.dat"))
    synthetic(source, head_count=4, experts=experts)
    legacy_imatrix(imatrix, read_gguf(source), experts)
    for mix in ("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q3_K_M", "Q2_K", "Q5_0", "Q4_0", "IQ4_NL", *I_QUANTS):
        run(llama_quantize, "--imatrix", imatrix, source, theirs, mix, 2)
        ollamaq("quantize", source, ours, "--q", mix, "--imatrix", imatrix)
        assert filecmp.cmp(ours, theirs, shallow=False), mix


SHAPES = {
    "grouped-query": {"head_count": 8, "head_count_kv": 2},
    "8-heads-a-value": {"head_count": 8, "head_count_kv": 1},
    "tied": {"head_count": 4, "tied": True},
    "odd-rows": {"head_count": 4, "width": 288, "inner": 544},
    "rows-of-no-block": {"head_count": 4, "width": 72, "inner": 136},
    "70b-depth": {"head_count": 4, "head_count_kv": 2, "layers": 80},
    "8-experts": {"head_count": 4, "layers": 9, "experts": 8},
    "4-experts": {"head_count": 4, "experts": 4},
}


def synthetic(
    path: Path,
    head_count: int,
    head_count_kv: int | None = None,
    layers: int = 11,
    width: int = 256,
    inner: int = 512,
    experts: int = 0,
    tied: bool = False,
) -> None:
    """A llama of random weights whose shape exercises the rules of the mixes, written by gguf-py."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(layers)
    writer.add_context_length(128)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(head_count)
    writer.add_head_count_kv(head_count_kv or head_count)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    if experts:
        writer.add_expert_count(experts)
        writer.add_expert_used_count(2)
    random = np.random.default_rng(2026)

    def add(name: str, *shape: int) -> None:
        kind = np.float16 if len(shape) > 1 else np.float32
        writer.add_tensor(name, random.standard_normal(shape, dtype=np.float32).astype(kind))

    kv_width = width * (head_count_kv or head_count) // head_count
    add("token_embd.weight", 96, width)
    add("output_norm.weight", width)
    if not tied:
        add("output.weight", 96, width)
    stack = (experts,) if experts else ()
    suffix = "_exps" if experts else ""
    for i in range(layers):
        for name, rows in (("attn_q", width), ("attn_k", kv_width), ("attn_v", kv_width), ("attn_output", width)):
            add(f"blk.{i}.{name}.weight", rows, width)
        for name in ("ffn_gate", "ffn_up"):
            add(f"blk.{i}.{name}{suffix}.weight", *stack, inner, width)
        add(f"blk.{i}.ffn_down{suffix}.weight", *stack, width, inner)
        add(f"blk.{i}.attn_norm.weight", width)
        add(f"blk.{i}.ffn_norm.weight", width)
        if experts:
            add(f"blk.{i}.ffn_gate_inp.weight", experts, width)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize("shape", SHAPES)
def test_every_mix_follows_the_rules_of_llama_quantize_on_a(shape, llama_quantize, tmp_path):
    source, theirs, ours = (tmp_path / name for name in ("source.gguf", "theirs.gguf", "ours.gguf"))
    synthetic(source, **SHAPES[shape])
    model = read_gguf(source)
    for mix in (*MIXES, *RARER, "IQ4_XS", "IQ3_S", "IQ3_M"):
        run(llama_quantize, source, theirs, mix, 2)
        write_plan(ours, make_plan(model, find_mix(mix)[1]))
        assert filecmp.cmp(ours, theirs, shallow=False), mix


OPTIONS = (
    ("--pure",),
    ("--leave-output-tensor",),
    ("--output-tensor-type", "q4_0", "--token-embedding-type", "q8_0"),
    ("--tensor-type", "ATTN_[qk]=iq4_nl", "--tensor-type", "attn=q2_k", "--tensor-type", "ffn_up=nvfp4"),
    ("--tensor-type", r"blk\.(0|3)\.ffn_down=f16", "--pure"),
    ("--prune-layers", "2,0,5"),
    ("--override-kv", "a.b=float:1.5", "--override-kv", "llama.context_length=int:77", "--prune-layers", "4"),
)


@pytest.mark.parametrize("experts", [0, 8])
def test_options_do_what_they_do_in_llama_quantize(experts, llama_quantize, tmp_path):
    source, theirs, ours, imatrix = (tmp_path / name for name in ("s.gguf", "theirs.gguf", "ours.gguf", "im.dat"))
    synthetic(source, head_count=4, head_count_kv=2, experts=experts)
    legacy_imatrix(imatrix, read_gguf(source), experts)
    for options in OPTIONS:
        for mix in ("Q4_K_M", "MXFP4_MOE", "Q1_0", "COPY"):
            run(llama_quantize, "--imatrix", imatrix, *options, source, theirs, mix, 2)
            ollamaq("quantize", source, ours, "--q", mix, "--imatrix", imatrix, *options)
            assert filecmp.cmp(ours, theirs, shallow=False), (options, mix)


def test_quantizing_again_reads_blocks_as_llama_quantize_does(llama_quantize, tmp_path):
    source, once, theirs, ours, imatrix = (tmp_path / name for name in ("s", "once", "theirs", "ours", "im.dat"))
    synthetic(source, head_count=4)
    legacy_imatrix(imatrix, read_gguf(source), 0)
    for mix in (*MIXES[2:], *RARER, *I_QUANTS, "Q1_0"):
        ollamaq("quantize", source, once, "--q", mix, "--imatrix", imatrix)
        run(llama_quantize, "--allow-requantize", once, theirs, "Q4_K_M", 2)
        ollamaq("quantize", once, ours, "--q", "Q4_K_M", "--allow-requantize")
        assert filecmp.cmp(ours, theirs, shallow=False), mix


def test_a_split_model_is_written_in_the_parts_of_llama_quantize(llama_quantize, tmp_path):
    synthetic(tmp_path / "source.gguf", head_count=4)
    ollamaq("gguf", "split", tmp_path / "source.gguf", tmp_path / "in", "--split-max-size", "1M")
    first = next(tmp_path.glob("in-00001-*"))
    run(llama_quantize, "--keep-split", first, tmp_path / "theirs.gguf", "Q4_K_M", 2)
    ollamaq("quantize", first, tmp_path / "ours.gguf", "--keep-split")
    theirs, ours = sorted(tmp_path.glob("theirs-*")), sorted(tmp_path.glob("ours-*"))
    assert len(ours) == len(theirs) > 3
    assert all(filecmp.cmp(*pair, shallow=False) for pair in zip(ours, theirs, strict=True))
