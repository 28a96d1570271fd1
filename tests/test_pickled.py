"""pytorch_model.bin gives its tensors, and no pickle runs anything: what is more than a dict of tensors is refused."""

import contextlib
import json
import lzma
import os
import pickle
import struct
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from hypothesis import given
from hypothesis import strategies as st

from ollamaq.checkpoint import open_checkpoint, pickle_machine
from ollamaq.checkpoint.pickle_machine import run
from ollamaq.checkpoint.pickled import NAMES, read_pickled
from ollamaq.convert import convert
from ollamaq.errors import ModelRefused
from ollamaq.tensors import to_float32

SAVED = lzma.decompress((Path(__file__).parent / "data" / "state-dict.bin.xz").read_bytes())
"""A state dict with ``_metadata``, a parameter, a part, a tied tensor and every integer, saved by PyTorch 2.11."""
PICKLED, INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
STORAGES = {"F32": "FloatStorage", "F16": "HalfStorage", "BF16": "BFloat16Storage", "I32": "IntStorage"}
SIZES = {"F32": 4, "F16": 2, "BF16": 2, "I32": 4}


# A pickle's instructions, written by hand: pickle itself would need the classes.


def text(value):
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def number(value):
    return b"J" + struct.pack("<i", value)


def glob(module, name):
    return f"c{module}\n{name}\n".encode()


def numbers(values):
    return b"(" + b"".join(map(number, values)) + b"t"


def a_storage(key, kind, count):
    return b"(" + text("storage") + glob("torch", kind) + text(key) + text("cpu") + number(count) + b"tQ"


def a_dict(entries):
    return (
        glob("collections", "OrderedDict")
        + b")R("
        + b"".join(text(name) + value for name, value in entries.items())
        + b"u"
    )


def a_tensor(key, dtype, count, shape, strides=None, first=0):
    strides = [int(np.prod(shape[i + 1 :])) for i in range(len(shape))] if strides is None else strides
    arguments = a_storage(key, STORAGES.get(dtype, dtype), count) + number(first) + numbers(shape) + numbers(strides)
    empty = glob("collections", "OrderedDict") + b")R"
    return glob("torch._utils", "_rebuild_tensor_v2") + b"(" + arguments + b"\x89" + empty + b"tR"


def program(body):
    return b"\x80\x02" + body + b"."


def save(path, pickled, storages=None, *, compression=zipfile.ZIP_STORED, more=()):
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", compression) as archive:
        warnings.simplefilter("ignore")  # of the names that come twice
        archive.writestr("archive/data.pkl", pickled)
        for name, data in (*more, *((f"data/{key}", data) for key, data in (storages or {}).items())):
            archive.writestr(f"archive/{name}", data)


def as_pickled(tensors, path):
    """``{name: (dtype, shape, bytes)}`` as ``torch.save`` would write it."""
    entries = {
        name: a_tensor(str(i), dtype, len(data) // SIZES[dtype], shape)
        for i, (name, (dtype, shape, data)) in enumerate(tensors.items())
    }
    save(path, program(a_dict(entries)), {str(i): data for i, (*_, data) in enumerate(tensors.values())})


def stored(path):
    """The tensors of a safetensors file, read by hand."""
    data = path.read_bytes()
    start = 8 + struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:start])
    return {
        name: (entry["dtype"], entry["shape"], data[start:][slice(*entry["data_offsets"])])
        for name, entry in header.items()
        if name != "__metadata__"
    }


def refusal(path, said):
    with pytest.raises(ModelRefused, match=said) as refused:
        read_pickled(path)
    assert "\n" not in str(refused.value)
    assert str(path) in str(refused.value)
    assert len(str(refused.value)) < 600 + len(str(path))
    assert refused.value.next_step


def test_what_pytorch_saved_is_read(tmp_path):
    (tmp_path / PICKLED).write_bytes(SAVED)
    tensors = read_pickled(tmp_path / PICKLED)
    found = {name: tensor.rows(0, tensor.n_rows).reshape(tensor.shape) for name, tensor in tensors.items()}
    base = np.arange(24, dtype=np.float32) / np.float32(7)
    floats = "f32", "bf16", "f16", "tied", "part", "one", "column"
    assert list(tensors) == [*floats, "i8", "u8", "i16", "i32", "i64", "bool"]
    assert [tensors[name].type for name in ("f32", "bf16", "f16")] == [Type.F32, Type.BF16, Type.F16]
    assert (found["f32"] == base.reshape(4, 6)).all()
    assert (found["tied"] == found["f32"]).all()
    assert (found["part"] == base.reshape(4, 6)[1:3]).all()
    assert (found["f16"] == base.reshape(4, 6).astype(np.float16)).all()
    assert (found["column"] == base.reshape(24, 1).astype(np.float16)).all()
    assert np.abs(to_float32(found["bf16"]) - base.reshape(2, 3, 4)).max() < 2**-7
    assert tensors["one"].shape == ()
    assert found["one"] == 2.5
    for name, start in {"i8": -2, "u8": 0, "i16": -2, "i32": -2, "i64": -2}.items():
        assert (found[name] == np.arange(start, start + 5)).all()
    assert (found["bool"] == [1, 0, 1]).all()
    assert (tensors["f32"].rows(1, 3) == base.reshape(4, 6)[1:3]).all()


@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
def test_a_pickled_model_converts_like_its_safetensors(shards, dtype, tiny_checkpoint):
    path = tiny_checkpoint(dtype=dtype)
    expected = convert(open_checkpoint(path), "auto")
    tensors = stored(path / "model.safetensors")
    names = sorted(tensors)
    (path / "model.safetensors").unlink()
    if shards == 1:
        as_pickled({name: tensors[name] for name in names}, path / PICKLED)
    else:
        parts = {"pytorch_model-1.bin": names[:7], "pytorch_model-2.bin": names[7:]}
        for part, its in parts.items():
            as_pickled({name: tensors[name] for name in its}, path / part)
        where = {name: part for part, its in parts.items() for name in its}
        (path / INDEX).write_text(json.dumps({"weight_map": where}))
    checkpoint = open_checkpoint(path)
    assert sum(file.suffix == ".bin" for file in checkpoint.files) == shards
    found = convert(checkpoint, "auto")
    assert found.metadata == expected.metadata
    assert [tensor.name for tensor in found.tensors] == [tensor.name for tensor in expected.tensors]
    for ours, theirs in zip(found.tensors, expected.tensors, strict=True):
        assert ours.rows(0, ours.n_rows).tobytes() == theirs.rows(0, theirs.n_rows).tobytes()


def test_safetensors_come_before_pickles(tiny_checkpoint):
    path = tiny_checkpoint()
    (path / PICKLED).write_bytes(SAVED)
    assert len(open_checkpoint(path).tensors) == 20


def test_a_pickle_that_would_run_a_command_runs_nothing(tmp_path):
    class Malicious:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "it ran"),)

    attack = pickle.dumps({"weight": Malicious()}, protocol=2)
    save(tmp_path / PICKLED, attack)
    refusal(tmp_path / PICKLED, r"more than a dict of tensors: it asks for '\w+\.mkdir'")
    assert not (tmp_path / "it ran").exists()
    pickle.loads(attack)  # which the machine does not do
    assert (tmp_path / "it ran").exists()


VIEW = glob("torch._utils", "_rebuild_tensor_v2")
A_DICT = b"}"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (glob("builtins", "eval") + b"(" + text("1") + b"tR", r"asks for 'builtins\.eval'"),
        (text("os") + text("system") + b"\x93", r"asks for 'os\.system'"),
        (glob("torch.storage", "_load_from_bytes"), r"asks for 'torch\.storage\._load_from_bytes'"),
        (glob("collections", "OrderedDict.__init__.__globals__"), "asks for 'collections.OrderedDict.__init__"),
        (b"(ios\nsystem\n", "instruction INST"),
        (b"(" + glob("collections", "OrderedDict") + b"o", "instruction OBJ"),
        (glob("collections", "OrderedDict") + b")\x81", "instruction NEWOBJ"),
        (glob("collections", "OrderedDict") + b")}\x92", "instruction NEWOBJ_EX"),
        (b"\x82\x01", "instruction EXT1"),
        (b"Pname\n", "instruction PERSID"),
        (b"\x97", "instruction NEXT_BUFFER"),
        (b"I" + b"9" * 5000 + b"\n", "is damaged|instruction INT"),
        (glob("collections", "OrderedDict") + b"(" + text("a") + b"tR", "it has a dict of"),
        (glob("torch", "FloatStorage") + b")R", "it calls 'F32'"),
        (text("os") + b")R", "it calls 'os'"),
        (b"NN" + b"R", "it calls None"),
        (glob("collections", "OrderedDict") + text("a") + b"R", "it calls"),
        (glob("collections", "OrderedDict") + b"}b", "sets the state of"),
        (b"]" + text("a") + b"Ns", "it has entries"),
        (b"}" + b"))s", "it has entries"),
        (b"}Na", r"it appends to \{\}"),
        (VIEW + b")R", "damaged: .*missing"),
        (VIEW + b"(NNNNNNtR", "a tensor of"),
        (b"NQ", "it has the storage None"),
        (a_storage("0", "FloatStorage", 24) + b"Q", "it has the storage"),
        (b"(" + text("storage") + text("F8_E4M3") + text("0") + text("cpu") + number(96) + b"tQ", "it has the storage"),
        (a_storage("../0", "FloatStorage", 24), "is damaged"),
        (a_storage("0", "FloatStorage", 25), "has 96 bytes for 25 values of F32"),
        (a_storage("0", "FloatStorage", -24), "has 96 bytes for -24 values of F32"),
        (a_dict({"a": b"K\x03"}), "'a' in it is 3"),
        (a_dict({"a": A_DICT}), r"'a' in it is \{\}"),
        (a_dict({}), r"it holds \{\}"),
        (a_tensor("0", "F32", 24, [24]), "it holds View"),
        (a_dict({"a": a_tensor("0", "F32", 24, [5, 5])}), "shape .5, 5. at value 0 of 24"),
        (a_dict({"a": a_tensor("0", "F32", 24, [4, 6], first=1)}), "at value 1 of 24"),
        (a_dict({"a": a_tensor("0", "F32", 24, [4, 6], first=-1)}), "at value -1 of 24"),
        (a_dict({"a": a_tensor("0", "F32", 24, [4, -6])}), "a tensor of shape"),
        (a_dict({"a": a_tensor("0", "F32", 24, [0, 6])}), "a tensor of shape"),
        (a_dict({"a": a_tensor("0", "F32", 24, [1] * 6)}), "it has a tensor of"),
        (a_dict({"a": a_tensor("0", "F32", 24, [6, 4], strides=[1, 6])}), r"strides \(1, 6\)"),
        (a_dict({"a": a_tensor("0", "F32", 24, [4, 6], strides=[6])}), "is damaged"),
        (a_dict({"a": a_tensor("0", "DoubleStorage", 12, [12])}), r"asks for 'torch\.DoubleStorage'"),
        (b"h\x05", "is damaged"),
        (b"0", "instruction POP"),
        (b"t", "is damaged"),
        (b"", "is damaged"),
        (b"\xff", "is damaged"),
        (b"X\xff\xff\xff\x7f", "is damaged"),
        (b"\x8e" + b"\xff" * 8, "is damaged"),
    ],
)
def test_a_pickle_of_more_than_tensors_is_refused(body, said, tmp_path):
    save(tmp_path / PICKLED, program(body), {"0": bytes(96)})
    refusal(tmp_path / PICKLED, said)


def test_nesting_does_not_end_the_process(tmp_path):
    """Python hashes and prints tuples recursively."""
    deep = b")" + b"\x85" * 200_000
    for body in (b"}" + deep + b"Ns", a_dict({"a": deep}), deep + b"Q", deep, deep + b")R", deep + b"}b"):
        save(tmp_path / PICKLED, program(body))
        refusal(tmp_path / PICKLED, "more than a dict of tensors")


def test_a_long_pickle_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(pickle_machine, "MAX_STEPS", 50)
    save(tmp_path / PICKLED, program(b"}" * 50))
    refusal(tmp_path / PICKLED, "more than 50 instructions")


def test_a_place_in_the_memo_costs_no_memory():
    assert run(program(b"}r\xfe\xff\xff\xff"), {}, str) == {}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no zip file"),
        (
            b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19." + bytes(40),
            "no zip file, which torch.save writes since PyTorch 1.6",
        ),
        (SAVED[:1000], "is damaged"),
        (SAVED[:-4], "is damaged"),
        (b"PK\x03\x04" + bytes(100), "is damaged"),
    ],
)
def test_a_file_of_another_form_is_refused(data, said, tmp_path):
    (tmp_path / PICKLED).write_bytes(data)
    refusal(tmp_path / PICKLED, said)


def test_an_odd_zip_is_refused(tmp_path):
    path, good = tmp_path / PICKLED, program(a_dict({"a": a_tensor("0", "F32", 24, [24])}))
    save(path, good, {"0": bytes(96)}, more=[("byteorder", "little")])
    assert read_pickled(path)["a"].shape == (24,)
    save(path, good, {"0": bytes(96)}, more=[("byteorder", "big")])
    refusal(path, "byte order is b'big'")
    save(path, good, {"0": bytes(96)}, compression=zipfile.ZIP_DEFLATED)
    refusal(path, "is compressed")
    save(path, good, {"0": bytes(96)}, more=[("data/0", bytes(96))])
    refusal(path, "two files of one name")
    save(path, good, {"0": bytes(96)}, more=[("more/data.pkl", good)])
    refusal(path, "2 files data.pkl")
    save(path, good)
    refusal(path, "is damaged: 'data/0'")


@given(edits=st.lists(st.tuples(st.integers(0, len(SAVED) - 1), st.binary(min_size=1, max_size=8)), max_size=3))
def test_damage_is_refused_or_read(edits, tmp_path_factory):
    data = bytearray(SAVED)
    for place, new in edits:
        data[place : place + len(new)] = new
    path = tmp_path_factory.mktemp("damaged") / PICKLED
    path.write_bytes(data)
    with contextlib.suppress(ModelRefused):
        for tensor in read_pickled(path).values():
            tensor.rows(0, tensor.n_rows)


@given(
    st.lists(
        st.sampled_from([bytes([code]) for code in b"()]}.RbcQJKXUqrhjtuasNlde\x85\x86\x87\x93\x94\x88"]), max_size=60
    )
)
def test_no_program_does_anything_but_fail(instructions):
    before = set(sys.modules)
    with contextlib.suppress(LookupError, TypeError, ValueError, ArithmeticError):
        run(b"".join(instructions), NAMES, str)
    assert set(sys.modules) == before
