"""GGUF files: the bytes of gguf-py when written, every damage one sentence when read."""

import struct
import time

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from gguf import GGUFValueType as Kind
from hypothesis import given, settings
from hypothesis import strategies as st

from ollamaq.errors import ModelRefused, ToolchainError
from ollamaq.gguf.model import Model, Value
from ollamaq.gguf.reader import read_gguf
from ollamaq.gguf.writer import layout, write
from ollamaq.tensors import Tensor

U32 = Kind.UINT32


def string(text):
    data = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(data)) + data


def pair(key, kind, data):
    return string(key) + struct.pack("<I", kind) + data


def info(name, shape=(32,), kind=Type.F32, offset=0):
    return string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def header(pairs=(), infos=(), magic=b"GGUF", version=3, n_pairs=None, n_infos=None):
    counts = (len(infos) if n_infos is None else n_infos, len(pairs) if n_pairs is None else n_pairs)
    data = magic + struct.pack("<IQQ", version, *counts) + b"".join(pairs) + b"".join(infos)
    return data + bytes(-len(data) % 32)


def matrix(name, values, kind):
    return Tensor(name, kind, values.shape, lambda start, stop: values.reshape(-1, values.shape[-1])[start:stop])


@pytest.fixture
def model():
    random = np.random.default_rng(2026)
    metadata = {
        "general.architecture": Value(Kind.STRING, "llama"),
        "llama.block_count": Value(U32, 2),
        "tokenizer.ggml.tokens": Value(Kind.ARRAY, ["a", "é", "🚀", ""], Kind.STRING),
        "tokenizer.ggml.scores": Value(Kind.ARRAY, [0.5, -1000.0], Kind.FLOAT32),
        "tokenizer.ggml.token_type": Value(Kind.ARRAY, [1, -3], Kind.INT32),
        "tokenizer.ggml.add_bos_token": Value(Kind.BOOL, True),
        "float": Value(Kind.FLOAT64, 0.1),
    }
    tensors = (
        matrix("f32", random.standard_normal((3, 5), dtype=np.float32), Type.F32),
        matrix("f16", random.standard_normal((2, 3, 8)).astype(np.float16), Type.F16),
        matrix("bf16", random.integers(0, 2**15, (7, 3), dtype=np.uint16), Type.BF16),
        Tensor("q8", Type.Q8_0, (2, 64), lambda start, stop: np.full((stop - start, 68), 7, np.uint8)),
        matrix("one", np.ones(3, np.float32), Type.F32),
    )
    return Model(metadata, tensors)


def test_bytes_are_those_of_gguf_py(model, tmp_path):
    size = write(tmp_path / "ours.gguf", model)
    writer = gguf.GGUFWriter(tmp_path / "theirs.gguf", "llama")
    for key, value in list(model.metadata.items())[1:]:
        writer.add_key_value(key, value.value, value.type, value.element)
    for tensor in model.tensors:
        data = tensor.rows(0, tensor.n_rows)
        block, n_bytes = gguf.GGML_QUANT_SIZES[tensor.type]
        shape = (
            *tensor.shape[:-1],
            tensor.shape[-1] // block * n_bytes if tensor.type is Type.Q8_0 else tensor.shape[-1],
        )
        writer.add_tensor(tensor.name, data.reshape(shape), raw_dtype=tensor.type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert (tmp_path / "ours.gguf").read_bytes() == (tmp_path / "theirs.gguf").read_bytes()
    assert size == (tmp_path / "ours.gguf").stat().st_size
    assert size % 32 == 0


def test_reading_gives_back_what_was_written_in_its_order(model, tmp_path):
    write(tmp_path / "model.gguf", model)
    again = read_gguf(tmp_path / "model.gguf")
    assert again.metadata == model.metadata
    assert list(again.metadata) == list(model.metadata)
    for ours, theirs in zip(again.tensors, model.tensors, strict=True):
        assert (ours.name, ours.type, ours.shape) == (theirs.name, theirs.type, theirs.shape)
        for start, stop in ((0, theirs.n_rows), (theirs.n_rows - 1, theirs.n_rows), (0, 0)):
            assert (ours.rows(start, stop) == theirs.rows(start, stop)).all()
            assert ours.rows(start, stop).dtype == theirs.rows(start, stop).dtype
    write(tmp_path / "again.gguf", again)
    assert (tmp_path / "again.gguf").read_bytes() == (tmp_path / "model.gguf").read_bytes()


@pytest.mark.parametrize("alignment", [8, 32, 64, 4096])
def test_alignment_is_honoured(alignment, model, tmp_path):
    aligned = Model(model.metadata | {"general.alignment": Value(U32, alignment)}, model.tensors)
    write(tmp_path / "model.gguf", aligned)
    place = layout(aligned.metadata, [(t.name, t.shape, t.type) for t in model.tensors])
    assert all(offset % alignment == 0 for offset in [*place.offsets, place.total_size])
    assert (read_gguf(tmp_path / "model.gguf").tensors[1].rows(0, 6) == model.tensors[1].rows(0, 6)).all()


def test_progress_reaches_the_size_and_a_failure_leaves_nothing(model, tmp_path):
    told = []
    size = write(tmp_path / "model.gguf", model, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (size, size)
    assert sorted(told) == told

    def fail(start, stop):
        raise ModelRefused("damaged")

    broken = Model(model.metadata, (Tensor("x", Type.F32, (4, 4), fail),))
    with pytest.raises(ModelRefused, match="damaged"):
        write(tmp_path / "broken.gguf", broken)
    assert [path.name for path in tmp_path.iterdir()] == ["model.gguf"]


def test_a_directory_that_is_no_directory_cannot_be_written(model, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ToolchainError, match=r"cannot write .*model\.gguf"):
        write(tmp_path / "file" / "model.gguf", model)


def test_a_vocabulary_of_150000_tokens_takes_no_second(tmp_path):
    tokens = Value(Kind.ARRAY, [f"token{i}" for i in range(150_000)], Kind.STRING)
    merges = Value(Kind.ARRAY, [f"to ken{i}" for i in range(300_000)], Kind.STRING)
    started = time.process_time()
    write(tmp_path / "model.gguf", Model({"tokens": tokens, "merges": merges}, ()))
    again = read_gguf(tmp_path / "model.gguf")
    assert time.process_time() - started < 5  # half a second where nothing else runs
    assert again.metadata["merges"] == merges


ARRAY = Kind.ARRAY
X = pair("x", U32, bytes(4))
DAMAGED = {
    "not a GGUF": (b"something else entirely", "is not a GGUF file"),
    "an empty file": (b"", "ends in the middle of its header, at byte 0"),
    "a safetensors file": (struct.pack("<Q", 20) + b'{"__metadata__": {}}', "is not a GGUF file"),
    "version 1": (header(version=1), "is of GGUF version 1; 2 and 3 can be read"),
    "big endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "is of GGUF version 50331648"),
    "cut in its header": (header([X])[:38], "ends in the middle of its header"),
    "more keys than bytes": (header([X], n_pairs=2**60), "claims 1152921504606846976 entries"),
    "more tensors than bytes": (header([X], n_infos=2**63), "claims 9223372036854775808 entries"),
    "a key longer than the file": (header([struct.pack("<Q", 2**62) + b"abc"]), "claims 4611686018427387904 entries"),
    "an array longer than the file": (header([pair("x", ARRAY, struct.pack("<IQ", 4, 2**61))]), "claims"),
    "a key that is not UTF-8": (header([pair(b"\xff\xfe", U32, bytes(4))]), "has text that is not UTF-8"),
    "a key twice": (header([X, X]), "has the key 'x' twice"),
    "an unknown type of value": (header([pair("x", 99, bytes(8))]), "has a value of unknown type 99"),
    "an array of arrays": (header([pair("x", ARRAY, struct.pack("<IQ", ARRAY, 1))]), "has an array of arrays"),
    "an unknown type of tensor": (header(infos=[info("t", kind=31)]) + bytes(128), "unknown type 31"),
    "no dimensions": (header(infos=[info("t", ())]) + bytes(128), "has tensor 't' of 0 dimensions"),
    "five dimensions": (header(infos=[info("t", (1,) * 5)]) + bytes(128), "has tensor 't' of 5 dimensions"),
    "an empty tensor": (header(infos=[info("t", (0,))]) + bytes(128), r"has tensor 't' of shape \[0\] in F32"),
    "half a block": (header(infos=[info("t", (33,), Type.Q8_0)]) + bytes(128), r"of shape \[33\] in Q8_0"),
    "a tensor beyond the end": (header(infos=[info("t", (99,))]) + bytes(128), "ends before tensor 't' does"),
    "a huge tensor": (header(infos=[info("t", (2**63, 2**63))]) + bytes(128), "ends before tensor 't' does"),
    "a tensor off the grid": (
        header(infos=[info("t", offset=4)]) + bytes(256),
        "has tensor 't' at offset 4, unaligned",
    ),
    "tensors over each other": (
        header(infos=[info("t"), info("u", offset=96)]) + bytes(512),
        "has tensor 'u' at offset 96, unaligned or over another one",
    ),
    "a tensor twice": (header(infos=[info("t"), info("t", offset=128)]) + bytes(256), "has tensor 't' twice"),
    "odd alignment": (header([pair("general.alignment", U32, struct.pack("<I", 33))]), "is aligned to '33' bytes"),
    "no alignment": (header([pair("general.alignment", U32, bytes(4))]), "is aligned to '0' bytes"),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_damage_is_one_sentence_that_names_the_file(damage, tmp_path):
    data, said = DAMAGED[damage]
    path = tmp_path / "model.gguf"
    path.write_bytes(data)
    with pytest.raises(ModelRefused, match=said) as refused:
        read_gguf(path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)
    assert refused.value.next_step


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ModelRefused, match=r"cannot read .*nothing\.gguf"):
        read_gguf(tmp_path / "nothing.gguf")


def test_a_file_cut_while_it_is_read_is_refused_not_fatal(model, tmp_path):
    path = tmp_path / "model.gguf"
    write(path, model)
    tensor = read_gguf(path).tensors[0]
    with path.open("r+b") as file:
        file.truncate(100)
    with pytest.raises(ModelRefused, match="early"):
        tensor.rows(0, 3)


SAMPLE = header(
    [
        pair("general.architecture", Kind.STRING, string("llama")),
        pair("n", U32, struct.pack("<I", 7)),
        pair("list", ARRAY, struct.pack("<IQ", Kind.STRING, 2) + string("a") + string("bc")),
        pair("ids", ARRAY, struct.pack("<IQ3i", Kind.INT32, 3, 1, 2, 3)),
        pair("flags", ARRAY, struct.pack("<IQ2?", Kind.BOOL, 2, True, False)),
        pair("general.alignment", U32, struct.pack("<I", 32)),
    ],
    [info("t", (8, 4)), info("u", (32,), Type.Q8_0, 128)],
) + bytes(192)


@settings(max_examples=400, deadline=None)
@given(
    edits=st.lists(
        st.tuples(st.integers(0, len(SAMPLE) - 8), st.binary(min_size=1, max_size=8)), min_size=1, max_size=4
    ),
    cut=st.integers(0, len(SAMPLE)),
)
def test_any_bytes_are_refused_or_a_model_that_can_be_read(edits, cut, tmp_path_factory):
    data = bytearray(SAMPLE)
    for at, new in edits:
        data[at : at + len(new)] = new
    path = tmp_path_factory.getbasetemp() / "mutated.gguf"
    path.write_bytes(data[:cut] if cut % 4 == 0 else data)
    model, said = Model({}, ()), ""
    try:
        model = read_gguf(path)
    except ModelRefused as refused:
        said = str(refused)
    assert "\n" not in said
    for tensor in model.tensors:
        assert len(tensor.rows(0, tensor.n_rows)) == tensor.n_rows
    layout(model.metadata, [(tensor.name, tensor.shape, tensor.type) for tensor in model.tensors])
