"""Digests are remembered as long as a file stays as it is."""

import hashlib
import os
import threading

import pytest

from ollamaq import digests
from ollamaq.digests import digest_of
from ollamaq.errors import ModelRefused
from ollamaq.files import user_cache


@pytest.fixture
def reads(monkeypatch):
    """The paths of which the bytes were read."""
    read = []
    original = digests.sha256_of

    def sha256_of(path, progress):
        read.append(path)
        return original(path, progress)

    monkeypatch.setattr(digests, "sha256_of", sha256_of)
    return read


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes(b"abc" * 1000)
    return path


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_file_is_read_once(file, reads):
    told = []
    assert digest_of(file) == digest_of(file, told.append) == sha256(file)
    assert reads == [file]
    assert told == [3000]


def test_a_link_to_a_file_is_the_file(file, reads, tmp_path):
    (tmp_path / "link").symlink_to(file)
    assert digest_of(tmp_path / "link") == digest_of(file)
    assert reads == [file]


@pytest.mark.parametrize("change", ["content", "size", "inode", "time"])
def test_a_changed_file_is_read_again(file, reads, change):
    digest_of(file)
    before = file.stat()
    if change == "content":
        file.write_bytes(b"abd" * 1000)
    elif change == "size":
        file.write_bytes(b"abc" * 1001)
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    elif change == "inode":
        other = file.with_name("other")
        other.write_bytes(b"abd" * 1000)
        os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
        other.replace(file)
    else:
        os.utime(file)
    assert digest_of(file) == sha256(file)
    assert len(reads) == 2


def test_a_file_of_the_future_is_read_once_and_again_when_it_changes(file, reads):
    os.utime(file, (4e9, 4e9))
    assert digest_of(file) == digest_of(file) == sha256(file)
    file.write_bytes(b"abd" * 1000)
    assert digest_of(file) == sha256(file)
    os.utime(file, (4e9, 4e9 + 1))
    assert digest_of(file) == sha256(file)
    assert len(reads) == 3


def test_a_damaged_entry_is_as_good_as_none(file, reads):
    digest_of(file)
    (entry,) = (user_cache() / "digests").iterdir()
    for damaged in (b"", b"{", b"[]", b'{"file": [], "sha256": "00"}', b"\xff" * 9000):
        entry.write_bytes(damaged)
        assert digest_of(file) == sha256(file)
    assert len(reads) == 6


def test_a_cache_that_cannot_be_written_only_costs_time(file, reads, monkeypatch, tmp_path):
    (tmp_path / "cache").write_text("no directory")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert digest_of(file) == digest_of(file) == sha256(file)
    assert len(reads) == 2


def test_a_file_that_changes_while_it_is_read_has_no_digest(file):
    def change(count):
        thread = threading.Thread(target=file.write_bytes, args=(b"changed",))
        thread.start()
        thread.join()

    with pytest.raises(ModelRefused, match="changed while it was read"):
        digest_of(file, change)
    assert not (user_cache() / "digests").exists()


def test_a_file_that_is_not_there_is_one_sentence(tmp_path):
    with pytest.raises(ModelRefused, match=r"cannot read .*none: No such file"):
        digest_of(tmp_path / "none")
