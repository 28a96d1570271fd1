"""Models in several files: the parts that llama-gguf-split would write, read as one, refused when they do not fit."""

import hashlib
import itertools

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from gguf import GGUFValueType as Kind

from ollamaq.errors import ModelRefused, ToolchainError, UsageError
from ollamaq.gguf.model import Model, Value
from ollamaq.gguf.reader import read_gguf
from ollamaq.gguf.splits import MAX_PARTS, join, read_parts, split, write_parts
from ollamaq.gguf.writer import write
from ollamaq.source import open_source
from ollamaq.tensors import Tensor

METADATA = {"general.architecture": Value(Kind.STRING, "llama"), "llama.block_count": Value(Kind.UINT32, 5)}
LIMIT = 288
"""Bytes of two tensors of `model`."""
DIGESTS = ["38d816381894e473", "d2af726b57696b42", "115fa7d362a4559b"]
"""Fronts of the SHA-256 of what llama-gguf-split makes of `model`, two tensors a part."""


def matrix(name, rows, fill):
    values = np.full((rows, 8), fill, np.float32)
    return Tensor(name, Type.F32, values.shape, lambda start, stop: values[start:stop])


@pytest.fixture
def model():
    return Model(METADATA, tuple(matrix(f"blk.{i}.weight", rows, i) for i, rows in enumerate((4, 2, 7, 2, 3))))


@pytest.fixture
def parts(model, tmp_path):
    return write_parts(tmp_path / "part", split(model, LIMIT))


def numbers(part):
    return {key: value.value for key, value in part.metadata.items() if key.startswith("split.")}


def rewrite(path, *, tensors=None, **changes):
    """Write a part anew with other facts, None for none."""
    part = read_gguf(path)
    changes = {"split." + key.replace("_", "."): value for key, value in changes.items()}
    metadata = {k: changes.get(k, v) for k, v in part.metadata.items()}
    write(path, Model({k: v for k, v in metadata.items() if v is not None}, tensors or part.tensors))


def test_tensors_fill_parts_in_their_order_and_a_large_one_has_its_own(model):
    names = [[tensor.name[4:5] for tensor in part.tensors] for part in split(model, LIMIT)]
    assert names == [["0", "1"], ["2", "3"], ["4"]]
    names = [[tensor.name[4:5] for tensor in part.tensors] for part in split(model, 200)]
    assert names == [["0", "1"], ["2"], ["3", "4"]]
    assert [len(part.tensors) for part in split(model, 1)] == [1] * 5
    assert [len(part.tensors) for part in split(model, 10**9)] == [5]


def test_the_first_part_has_the_metadata_and_every_part_its_number(model):
    first, second, third = split(model, LIMIT)
    assert list(first.metadata) == [*METADATA, "split.no", "split.tensors.count", "split.count"]
    assert [numbers(part)["split.no"] for part in (first, second, third)] == [0, 1, 2]
    assert second.metadata == {
        "split.no": Value(Kind.UINT16, 1),
        "split.tensors.count": Value(Kind.INT32, 5),
        "split.count": Value(Kind.UINT16, 3),
    }


def test_any_part_stands_for_the_whole(model, parts, tmp_path):
    assert [path.name for path in parts] == [f"part-0000{i}-of-00003.gguf" for i in (1, 2, 3)]
    write(tmp_path / "whole.gguf", model)
    for path in parts:
        read = read_parts(path)
        assert list(read) == parts
        write(tmp_path / "joined.gguf", join(read.values()))
        assert (tmp_path / "joined.gguf").read_bytes() == (tmp_path / "whole.gguf").read_bytes()
        opened = open_source(path)
        assert opened.files == tuple(parts)
        assert opened.model.metadata == METADATA
        assert opened.n_bytes == sum(part.stat().st_size for part in parts)


def test_a_file_of_its_own_is_the_only_part(model, tmp_path):
    write(tmp_path / "whole.gguf", model)
    assert list(read_parts(tmp_path / "whole.gguf")) == [tmp_path / "whole.gguf"]
    merged = {"split.no": Value(Kind.UINT16, 0), "split.count": Value(Kind.UINT16, 0)}  # as llama-gguf-split leaves it
    write(tmp_path / "merged.gguf", Model(METADATA | merged, model.tensors))
    assert open_source(tmp_path / "merged.gguf").model.metadata == METADATA


def test_splitting_what_was_split_counts_anew(parts, model):
    again = split(join(read_parts(parts[0]).values()), 10**6)
    assert [numbers(part) for part in again] == [{"split.no": 0, "split.tensors.count": 5, "split.count": 1}]


def test_bytes_are_those_of_llama_gguf_split(parts):
    digests = [hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in parts]
    assert digests == DIGESTS


def test_a_missing_part_is_named(parts):
    parts[1].unlink()
    with pytest.raises(ModelRefused, match=r"part-00002-of-00003\.gguf is missing, one of 3 parts") as refused:
        read_parts(parts[2])
    assert refused.value.next_step


def test_parts_keep_their_names(parts, tmp_path):
    parts[0].rename(tmp_path / "renamed.gguf")
    with pytest.raises(ModelRefused, match=r"renamed\.gguf is part 1 of 3, and its name does not end in '-00001-of-0"):
        read_parts(tmp_path / "renamed.gguf")
    (tmp_path / "renamed.gguf").rename(tmp_path / "-00001-of-00003.gguf")
    with pytest.raises(ModelRefused, match="its name does not end in"):
        read_parts(tmp_path / "-00001-of-00003.gguf")


def test_parts_in_each_others_place_are_refused(parts, tmp_path):
    parts[1].rename(tmp_path / "x")
    parts[2].rename(parts[1])
    (tmp_path / "x").rename(parts[2])
    with pytest.raises(ModelRefused, match=r"part-00002-of-00003\.gguf is not the part that its name says"):
        read_parts(parts[0])


def test_a_part_of_another_split_is_refused(parts):
    rewrite(parts[2], count=Value(Kind.UINT16, 4))
    with pytest.raises(ModelRefused, match=r"part-00003-of-00003\.gguf is not the part"):
        read_parts(parts[0])


@pytest.mark.parametrize("value", [None, Value(Kind.STRING, "1"), Value(Kind.BOOL, True)])
def test_numbers_are_numbers(value, parts):
    rewrite(parts[1], no=value)
    with pytest.raises(ModelRefused, match=r"part-00002-of-00003\.gguf .* no number in 'split\.no'"):
        read_parts(parts[0])


def test_a_tensor_in_two_parts_is_refused(parts):
    rewrite(parts[2], tensors=read_gguf(parts[0]).tensors)
    with pytest.raises(ModelRefused, match=r"tensor 'blk\.0\.weight' is in .*part-00001.* and in part-00003"):
        read_parts(parts[0])


def test_lost_tensors_are_noticed(parts):
    rewrite(parts[1], tensors=read_gguf(parts[1]).tensors[:1])
    with pytest.raises(ModelRefused, match="promises 5 tensors, and all the parts have 4"):
        read_parts(parts[0])


def test_more_parts_than_can_be_counted_are_refused():
    tensors = tuple(itertools.repeat(matrix("x", 1, 0), MAX_PARTS + 1))
    with pytest.raises(UsageError, match="65536 parts are too many"):
        split(Model({}, tensors), 1)


def test_progress_reaches_the_size(model, tmp_path):
    told = []
    paths = write_parts(tmp_path / "x", split(model, 200), lambda done, total: told.append((done, total)))
    size = sum(path.stat().st_size for path in paths)
    assert told[-1] == (size, size)
    assert told == sorted(told)


def test_a_failure_leaves_nothing(model, tmp_path):
    def fail(start, stop):
        raise ModelRefused("damaged")

    broken = Model(METADATA, (*model.tensors, Tensor("x", Type.F32, (4, 8), fail)))
    with pytest.raises(ModelRefused, match="damaged"):
        write_parts(tmp_path / "x", split(broken, 200))
    assert not list(tmp_path.iterdir())


def test_a_directory_in_the_way_is_an_error_of_one_sentence(model, tmp_path):
    (tmp_path / "x-00001-of-00001.gguf").mkdir()
    with pytest.raises(ToolchainError, match=r"cannot write .*x-00001"):
        write_parts(tmp_path / "x", split(model, 10**6))
    assert [path.name for path in tmp_path.iterdir()] == ["x-00001-of-00001.gguf"]
