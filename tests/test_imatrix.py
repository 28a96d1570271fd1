"""Importance matrices: read as llama-quantize reads them, every damage one sentence."""

import struct
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from gguf import GGUFValueType as Kind
from hypothesis import given, settings
from hypothesis import strategies as st

from ollamaq.errors import ModelRefused, UsageError
from ollamaq.gguf.model import Model, Value
from ollamaq.gguf.writer import layout, write
from ollamaq.quantize.imatrix import Entry, Imatrix, read_imatrix
from ollamaq.tensors import Tensor

METADATA = {
    "general.type": Value(Kind.STRING, "imatrix"),
    "imatrix.datasets": Value(Kind.ARRAY, ["wiki.txt", "b"], Kind.STRING),
    "imatrix.chunk_count": Value(Kind.UINT32, 11),
    "imatrix.chunk_size": Value(Kind.UINT32, 512),
}
WRITTEN = (
    b"\x15\0\0\0\0\0\0\0quantize.imatrix.file\x08\0\0\0\x07\0\0\0\0\0\0\0im.gguf"
    b"\x18\0\0\0\0\0\0\0quantize.imatrix.dataset\x08\0\0\0\x08\0\0\0\0\0\0\0wiki.txt"
    b"\x1e\0\0\0\0\0\0\0quantize.imatrix.entries_count\x04\0\0\0\x18\0\0\0"
    b"\x1d\0\0\0\0\0\0\0quantize.imatrix.chunks_count\x04\0\0\0\x0b\0\0\0"
)
"""What the pinned llama-quantize writes for 24 entries of ``im.gguf``, made of 11 chunks of two texts."""


def tensor(name, values, kind=np.float32):
    values = np.array(values, kind)
    type_ = {np.float32: Type.F32, np.float16: Type.F16}[kind]
    return Tensor(name, type_, values.shape, lambda a, b: values.reshape(-1, values.shape[-1])[a:b])


def pair(name, sums, counts):
    return tensor(f"{name}.in_sum2", sums), tensor(f"{name}.counts", counts)


def whole(imatrix, name):
    """All the values of an entry, which are the same however they are read."""
    entry = imatrix.entries[name]
    values = entry.values(0, entry.n_values)
    one_by_one = [entry.values(i, i + 1) for i in range(entry.n_values)]
    assert np.concatenate(one_by_one).tobytes() == values.tobytes()
    return values


def entry(size=1):
    return Entry(size, lambda start, stop: np.ones(stop - start, np.float32))


@pytest.fixture
def save(tmp_path):
    def save(*tensors, metadata=METADATA):
        write(tmp_path / "imatrix.gguf", Model(metadata, tensors))
        return tmp_path / "imatrix.gguf"

    return save


def legacy(*entries, count=None, trailer=b""):
    data = struct.pack("<i", len(entries) if count is None else count)
    for name, n_calls, values in entries:
        name = name if isinstance(name, bytes) else name.encode()
        data += struct.pack("<i", len(name)) + name + struct.pack(f"<ii{len(values)}f", n_calls, len(values), *values)
    return data + trailer


def test_sums_become_means_in_float32(save):
    sums = np.random.default_rng(1).random(64, np.float32) * 1000
    imatrix = read_imatrix(save(*pair("blk.0.attn_q.weight", sums, [3])))
    assert list(imatrix.entries) == ["blk.0.attn_q.weight"]
    values = whole(imatrix, "blk.0.attn_q.weight")
    assert values.dtype == np.float32
    assert values.tobytes() == (sums / np.float32(3)).tobytes()
    assert (imatrix.datasets, imatrix.chunk_count) == (("wiki.txt", "b"), 11)


def test_each_expert_has_its_count_and_one_that_no_text_reached_matters_evenly(save):
    sums = np.arange(20, dtype=np.float32).reshape(5, 4)
    counts = [[2], [0], [0.25], [0.5], [-3]]  # rounded half away from zero
    values = whole(read_imatrix(save(*pair("exps", sums, counts))), "exps")
    assert values.shape == (20,)
    assert values.tolist() == [0, 0.5, 1, 1.5, *[1] * 8, 12, 13, 14, 15, *[1] * 4]


def test_one_count_serves_all_the_matrices_of_a_stack(save):
    values = whole(read_imatrix(save(*pair("attn_k_b", [[[2, 4], [6, 8]]], [2]))), "attn_k_b")
    assert values.tolist() == [1, 2, 3, 4]


def test_weights_are_those_of_each_matrix(save):
    sums = np.arange(24, dtype=np.float32).reshape(3, 8)
    imatrix = read_imatrix(save(*pair("stack", sums, [[1], [2], [4]]), *pair("one", sums[0], [1])))
    stack = Tensor("stack", Type.F32, (3, 5, 8), lambda start, stop: None)
    assert [imatrix.of(stack)(i).tolist() for i in range(3)] == [(sums[i] / 2**i).tolist() for i in range(3)]
    assert imatrix.of(Tensor("one", Type.F32, (5, 8), lambda start, stop: None))(0).tolist() == sums[0].tolist()
    assert imatrix.of(Tensor("other", Type.F32, (5, 8), lambda start, stop: None)) is None
    with pytest.raises(ModelRefused, match="has 24 values for 'stack', which has 8 inputs"):
        imatrix.of(Tensor("stack", Type.F32, (5, 8), lambda start, stop: None))


def test_signed_sums_statistics_and_strange_names_are_ignored(save):
    others = tensor("a.in_sum", [-1, -1]), tensor("a.stats", [1] * 12), tensor("else", [1])
    assert whole(read_imatrix(save(*pair("a", [1, 2], [1]), *others)), "a").tolist() == [1, 2]


def test_the_writer_of_gguf_py_is_understood(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "none")
    writer.add_array("imatrix.datasets", ["text"])
    writer.add_uint32("imatrix.chunk_count", 1)
    writer.add_uint32("imatrix.chunk_size", 512)
    writer.add_tensor("w.in_sum2", np.array([[2, 4]], np.float32))
    writer.add_tensor("w.counts", np.array([[2]], np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert whole(read_imatrix(tmp_path / "x.gguf"), "w").tolist() == [1, 2]


def test_legacy_values_are_divided_by_the_calls(tmp_path):
    path = tmp_path / "imatrix.dat"
    entries = ("a", 3, [1, 2, 4]), ("b", 0, [5]), ("é", -1, [6])
    path.write_bytes(legacy(*entries, trailer=struct.pack("<ii", 7, 4) + b"wiki"))
    imatrix = read_imatrix(path)
    assert whole(imatrix, "a").tobytes() == (np.array([1, 2, 4], np.float32) / np.float32(3)).tobytes()
    assert [whole(imatrix, name).tolist() for name in ("b", "é")] == [[5], [6]]
    assert (imatrix.datasets, imatrix.chunk_count) == (("wiki",), 7)


@pytest.mark.parametrize(
    ("trailer", "chunk_count"), [(b"", 0), (struct.pack("<i", 5), 5), (struct.pack("<ii", 5, 0), 5)]
)
def test_the_end_of_a_legacy_file_may_be_missing(trailer, chunk_count, tmp_path):
    (tmp_path / "old.dat").write_bytes(legacy(("a", 1, [1]), trailer=trailer))
    imatrix = read_imatrix(tmp_path / "old.dat")
    assert (imatrix.datasets, imatrix.chunk_count) == ((), chunk_count)


def test_entries_are_chosen_by_a_part_of_their_names():
    entries = {name: entry() for name in ("blk.0.attn_q", "blk.0.ffn_up", "blk.1.ffn_up")}
    imatrix = Imatrix("x", entries, ("text",), 3)
    assert imatrix.select() == imatrix
    assert list(imatrix.select(include=["attn", "blk.1"]).entries) == ["blk.0.attn_q", "blk.1.ffn_up"]
    assert list(imatrix.select(exclude=["attn", "blk.1"]).entries) == ["blk.0.ffn_up"]
    assert imatrix.select(include=["nothing"]).metadata() == {}
    with pytest.raises(UsageError, match="not both"):
        imatrix.select(include=["a"], exclude=["b"])


def test_metadata_is_that_of_llama_quantize():
    entries = {str(i): entry() for i in range(24)}
    header = layout(Imatrix("im.gguf", entries, ("wiki.txt", "b"), 11).metadata(), []).header
    assert header[24 : 24 + len(WRITTEN)] == WRITTEN
    assert not any(header[24 + len(WRITTEN) :])


@pytest.mark.parametrize("chunk_count", [0, -1, 2**31])
def test_what_is_not_known_is_not_written(chunk_count):
    assert list(Imatrix("x", {"a": entry()}, (), chunk_count).metadata()) == [
        "quantize.imatrix.file",
        "quantize.imatrix.entries_count",
    ]


def test_the_path_is_written_as_it_was_given_and_cut_to_127_bytes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("old.dat").write_bytes(legacy(("a", 1, [1])))
    assert read_imatrix("./old.dat").metadata()["quantize.imatrix.file"].value == "./old.dat"
    imatrix = Imatrix("y" * 126 + "é.dat", {"a": entry()}, ("x" * 200,))
    assert imatrix.metadata()["quantize.imatrix.file"].value == "y" * 126
    assert imatrix.metadata()["quantize.imatrix.dataset"].value == "x" * 127


A = pair("a", [1, 2], [1])
WRONG = {
    "no entries": ((tensor("else", [1]),), METADATA, "has no entries"),
    "no counts": (A[:1], METADATA, "has only one of sums and counts for 'a'"),
    "no sums": (A[1:], METADATA, "has only one of sums and counts for 'a'"),
    "signed sums alone": ((tensor("a.in_sum", [1]),), METADATA, "has only one of sums and counts for 'a'"),
    "halves": ((A[0], tensor("a.counts", [1], np.float16)), METADATA, "has sums or counts for 'a' that are not F32"),
    "counts that do not divide": (pair("a", [1, 2], [1, 1, 1]), METADATA, "has 2 sums, 2 of them signed, and 3 counts"),
    "other signed sums": ((*A, tensor("a.in_sum", [1])), METADATA, "has 2 sums, 1 of them signed, and 1 counts"),
    "sums that are not finite": (pair("a", [1, np.inf], [1]), METADATA, "has values that are not finite for 'a'"),
    "counts that are not finite": (pair("a", [1], [np.nan]), METADATA, "has counts that are not finite for 'a'"),
    "a model": (A, {}, "is a GGUF file, but no importance matrix: it lacks 'imatrix.datasets'"),
    "text for a number": (
        A,
        METADATA | {"imatrix.chunk_count": Value(Kind.STRING, "11")},
        "has an imatrix.chunk_count that is no uint32",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_gguf_with(wrong, save):
    tensors, metadata, said = WRONG[wrong]
    path = save(*tensors, metadata=metadata)
    with pytest.raises(ModelRefused, match=said) as refused:
        read_imatrix(path)
    assert str(path) in str(refused.value)
    assert refused.value.next_step


ONE = legacy(("a", 1, [1.0, 2.0]))
DAMAGED = {
    "nothing": (b"", "ends early, or is no importance matrix: 4 bytes are due at 0"),
    "text": (b"Once upon a time, there was a model", "is no importance matrix: it has a name of 1869640992"),
    "no entries": (legacy(), "is no importance matrix: it has 0 entries"),
    "fewer than no entries": (legacy(count=-1), "is no importance matrix: it has -1 entries"),
    "more entries than bytes": (legacy(("a", 1, [1]), count=2**31 - 1), "ends early"),
    "a name below no length": (struct.pack("<ii", 1, -5), "it has a name of -5 bytes"),
    "a huge name": (struct.pack("<ii", 1, 2**31 - 1), "it has a name of 2147483647 bytes"),
    "a name that is not UTF-8": (legacy((b"\xff", 1, [1])), "has a name that is not UTF-8"),
    "no values": (legacy(("a", 1, [])), "has 0 values for 'a'"),
    "more values than bytes": (ONE[:13] + struct.pack("<i", 2**31 - 1) + ONE[17:], "ends early"),
    "cut in its values": (ONE[:-1], "ends early"),
    "an entry twice": (legacy(("a", 1, [1]), ("a", 1, [1])), "has 'a' twice"),
    "a value that is no number": (legacy(("a", 1, [np.nan])), "has values that are not finite for 'a'"),
    "cut after its entries": (ONE + b"\1", "ends early"),
    "cut in the dataset": (ONE + struct.pack("<ii", 1, 9) + b"text", "ends early"),
    "a huge dataset": (ONE + struct.pack("<ii", 1, 2**31 - 1), "it has a name of 2147483647 bytes"),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_damage_is_one_sentence_that_names_the_file(damage, tmp_path):
    data, said = DAMAGED[damage]
    path = tmp_path / "imatrix.dat"
    path.write_bytes(data)
    with pytest.raises(ModelRefused, match=said) as refused:
        read_imatrix(path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)
    assert refused.value.next_step


def test_a_path_that_is_no_file_is_refused(tmp_path):
    with pytest.raises(ModelRefused, match="is a directory"):
        read_imatrix(tmp_path)
    with pytest.raises(ModelRefused, match="cannot read"):
        read_imatrix(tmp_path / "nothing.dat")


SAMPLE = legacy(("blk.0.w", 2, [1.0, 2.0]), ("blk.1.w", 3, [3.0]), trailer=struct.pack("<ii", 2, 4) + b"text")


@settings(max_examples=300, deadline=None)
@given(
    edits=st.lists(st.tuples(st.integers(0, len(SAMPLE) - 4), st.binary(min_size=1, max_size=4)), max_size=3),
    cut=st.integers(0, 2 * len(SAMPLE)),
)
def test_any_bytes_are_refused_or_finite_values(edits, cut, tmp_path_factory):
    data = bytearray(SAMPLE)
    for at, new in edits:
        data[at : at + len(new)] = new
    path = tmp_path_factory.getbasetemp() / "mutated.dat"
    path.write_bytes(data[:cut])
    imatrix, said = Imatrix("", {}), ""
    try:
        imatrix = read_imatrix(path)
    except ModelRefused as refused:
        said = str(refused)
    assert "\n" not in said
    assert all(np.isfinite(whole(imatrix, name)).all() for name in imatrix.entries)
