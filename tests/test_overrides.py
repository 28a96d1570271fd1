"""What the options of llama-quantize do to its plans.

``data/overrides.json.gz`` holds the types and the order that llama-quantize b11434 gave the models of ``plans.json.gz``
under options; null where it refused.
"""

import gzip
import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from gguf import GGUFValueType
from typer.testing import CliRunner

from ollamaq.cli import app
from ollamaq.gguf.model import Model, Value
from ollamaq.gguf.reader import read_gguf
from ollamaq.gguf.splits import read_parts, split, write_parts
from ollamaq.gguf.writer import write
from ollamaq.quantize.dequantize import dequantize
from ollamaq.quantize.overrides import parse_layers, parse_override, parse_tensor_type, parse_type, read_tensor_types
from ollamaq.tensors import Tensor

DATA = Path(__file__).parent / "data"
PLANS = json.loads(gzip.decompress((DATA / "plans.json.gz").read_bytes()))
OVERRIDDEN = json.loads(gzip.decompress((DATA / "overrides.json.gz").read_bytes()))
CASES = [(shape, options) for shape, cases in OVERRIDDEN.items() for options in cases]


def value(plain) -> Value:
    if isinstance(plain, str):
        return Value(GGUFValueType.STRING, plain)
    return Value(GGUFValueType.FLOAT32 if isinstance(plain, float) else GGUFValueType.UINT32, plain)


def weights(name, type_name, shape) -> Tensor:
    kind = {"F32": np.float32, "F16": np.float16}[type_name]
    data = np.random.default_rng(len(name)).standard_normal(shape, np.float32).astype(kind).reshape(-1, shape[-1])
    return Tensor(name, Type[type_name], tuple(shape), lambda start, stop: data[start:stop])


@pytest.fixture(scope="session")
def source(tmp_path_factory):
    """Files of the models in ``plans.json.gz``."""

    def save(shape) -> Path:
        path = tmp_path_factory.getbasetemp() / f"{shape}.gguf"
        if not path.exists():
            metadata = {key: value(plain) for key, plain in PLANS[shape]["metadata"].items()}
            write(path, Model(metadata, tuple(weights(*tensor) for tensor in PLANS[shape]["source"])))
        return path

    return save


@pytest.fixture
def run():
    def run(*arguments, code=0):
        result = CliRunner().invoke(app, list(map(str, arguments)))
        assert result.exit_code == code, f"{result.output}\n{result.exception!r}"
        assert code == 0 or isinstance(result.exception, SystemExit)
        return result

    return run


@pytest.mark.parametrize(("shape", "options"), CASES)
def test_plans_under_options_are_those_of_llama_quantize(shape, options, source):
    golden = OVERRIDDEN[shape][options]
    command = "quantize" if "override-kv" in options else "plan"
    for mix, expected in golden["mixes"].items():
        arguments = [command, str(source(shape)), *shlex.split(options.replace("\\", "\\\\")), "--q", mix, "--json"]
        if command == "quantize":
            arguments[2:2] = ["/nowhere/out.gguf", "--dry-run"]
        result = CliRunner().invoke(app, arguments)
        assert (result.exit_code == 0) is (expected is not None), (mix, result.output)
        if expected and command == "plan":
            tensors = json.loads(result.stdout)["tensors"]
            assert [tensor["name"] for tensor in tensors] == golden["names"]
            assert [tensor["type"] for tensor in tensors] == expected, mix
        elif expected:
            assert json.loads(result.stdout)["types"] == {t: expected.count(t) for t in set(expected)}, mix


def test_patterns_types_and_layers_are_read_as_llama_quantize_reads_them(tmp_path):
    pattern, type_ = parse_tensor_type("BLK\\.[01]=Q8_0")
    assert (pattern.pattern, type_) == ("blk\\.[01]", Type.Q8_0)
    assert parse_type("f16") is Type.F16
    assert parse_layers("3,0,3") == {0, 3}
    (tmp_path / "types.txt").write_text("attn_v=q8_0\n  ffn=iq4_nl attn=f32\n")
    assert [one for _, one in read_tensor_types(tmp_path / "types.txt")] == [Type.Q8_0, Type.IQ4_NL, Type.F32]


@pytest.mark.parametrize(
    ("typed", "key", "expected"),
    [
        ("a=int:5", "a", Value(GGUFValueType.UINT32, 5)),
        ("a.b=float:0.5", "a.b", Value(GGUFValueType.FLOAT32, 0.5)),
        ("a=bool:true", "a", Value(GGUFValueType.BOOL, True)),
        ("a=str:x=y: z", "a", Value(GGUFValueType.STRING, "x=y: z")),
    ],
)
def test_metadata_on_the_command_line(typed, key, expected):
    assert parse_override(typed) == (key, expected)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--tensor-type", "attn_v"], "'attn_v' is not of the form REGEX=TYPE"),
        (["--tensor-type", "=q8_0"], "is not of the form"),
        (["--tensor-type", "(=q8_0"], "'(' is not a regular expression"),
        (["--tensor-type", "a=q8"], "unknown type 'q8': did you mean"),
        (["--tensor-type-file", "/nowhere"], "cannot read /nowhere"),
        (["--output-tensor-type", "q9_9"], "unknown type 'q9_9'"),
        (["--override-kv", "a=int"], "is not of the form KEY=TYPE:VALUE"),
        (["--override-kv", "a=uint8:3"], "is not of the form KEY=TYPE:VALUE"),
        (["--override-kv", "a=int:-3"], "'-3' is no uint32"),
        (["--override-kv", "=int:3"], "is no key"),
        (["--prune-layers", "1-3"], "'1-3' are no layers"),
        (["--prune-layers", "11"], "layer 11 cannot be pruned: the model has layers 0 to 10"),
        (["--prune-layers", "0,1,2,3,4,5,6,7,8,9,10"], "all the layers would be pruned"),
        (["--tensor-type", "ffn=iq2_xs"], "cannot be written without an importance matrix"),
        (["--token-embedding-type", "iq1_s"], "cannot be written without an importance matrix"),
    ],
)
def test_options_that_cannot_be_followed(options, said, source, run, tmp_path):
    result = run("quantize", source("grouped-query"), tmp_path / "out.gguf", *options, code=2)
    assert said in " ".join(result.stderr.split())
    assert not list(tmp_path.iterdir())


def test_a_type_that_does_not_divide_the_rows_is_refused(source, run, tmp_path):
    result = run("quantize", source("odd-rows"), tmp_path / "out.gguf", "--output-tensor-type", "q6_k", code=2)
    assert "'output.weight' has rows of 288 values, which Q6_K cannot hold" in " ".join(result.stderr.split())


def test_overridden_keys_come_after_those_of_the_quantization(source, run, tmp_path):
    override = ["--override-kv", "general.file_type=int:3", "--override-kv", "a.b=str:c", "--prune-layers", "0"]
    run("quantize", source("tied"), tmp_path / "out.gguf", "--q", "Q8_0", *override)
    last = list(read_gguf(tmp_path / "out.gguf").metadata.items())[-4:]
    assert [(key, kept.value) for key, kept in last] == [
        ("general.quantization_version", 2),
        ("general.file_type", 3),
        ("a.b", "c"),
        ("llama.block_count", 10),
    ]


def test_a_quantized_model_is_quantized_again_only_on_demand(source, run, tmp_path):
    run("quantize", source("tied"), tmp_path / "q8.gguf", "--q", "Q8_0")
    refused = run("quantize", tmp_path / "q8.gguf", tmp_path / "q4.gguf", "--q", "Q4_0", code=3)
    assert "--allow-requantize" in refused.stderr
    run("quantize", tmp_path / "q8.gguf", tmp_path / "q4.gguf", "--q", "Q4_0", "--allow-requantize")
    tensors = {tensor.name: tensor for tensor in read_gguf(tmp_path / "q8.gguf").tensors}
    name = "blk.0.attn_q.weight"
    again = next(tensor for tensor in read_gguf(tmp_path / "q4.gguf").tensors if tensor.name == name)
    before = dequantize(Type.Q8_0, tensors[name].rows(0, 256))
    after = dequantize(Type.Q4_0, again.rows(0, 256))
    assert again.type is Type.Q4_0
    assert np.abs(after - before).max() <= np.abs(before).max() / 8


@pytest.fixture
def split_source(source, tmp_path):
    path = source("grouped-query")
    return write_parts(tmp_path / "in", split(read_gguf(path), 1_000_000))


def test_a_split_model_keeps_its_parts(split_source, run, tmp_path):
    assert len(split_source) > 3
    result = run("quantize", split_source[1], tmp_path / "out.gguf", "--keep-split", "--quiet")
    written = [Path(line) for line in result.stdout.split()]
    assert [path.name for path in written] == [path.name.replace("in-", "out-") for path in split_source]
    parts = read_parts(written[0])
    sources = read_parts(split_source[0])
    names = [[tensor.name for tensor in part.tensors] for part in parts.values()]
    assert names == [[tensor.name for tensor in part.tensors] for part in sources.values()]
    assert list(list(parts.values())[1].metadata) == ["split.no", "split.count", "split.tensors.count"]


def test_of_a_split_model_all_parts_appear_or_none(split_source, run, tmp_path):
    last = split_source[-1]
    data = bytearray(last.read_bytes())
    data[-64:] = b"\xff" * 64  # not a number
    last.write_bytes(data)
    before = set(tmp_path.iterdir())
    run("quantize", last, tmp_path / "out.gguf", "--keep-split", code=3)
    assert set(tmp_path.iterdir()) == before


def test_parts_that_were_written_before_an_interruption_are_kept(split_source, run, tmp_path, monkeypatch):
    run("quantize", split_source[0], tmp_path / "whole.gguf", "--keep-split")
    whole = [path.read_bytes() for path in sorted(tmp_path.glob("whole-*"))]
    last = split_source[-1].read_bytes()
    split_source[-1].write_bytes(last[:-64] + b"\xff" * 64)
    resumed = ["quantize", split_source[0], tmp_path / "out.gguf", "--keep-split", "--resume"]
    run(*resumed, code=3)
    (hidden,) = tmp_path.glob(".out-*.partial")
    first = hidden / "out-00001-of-00014.gguf"
    assert first.exists()
    written = first.stat().st_mtime_ns
    run(*resumed, code=3)
    assert first.stat().st_mtime_ns == written
    split_source[-1].write_bytes(last)
    run(*resumed)
    assert [path.read_bytes() for path in sorted(tmp_path.glob("out-*"))] == whole
    assert not list(tmp_path.glob(".*"))
