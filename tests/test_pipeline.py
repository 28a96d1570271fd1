"""Writing a plan: the same bytes however it is done, nothing half written, and on from where it stopped."""

import hashlib
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from ollamaq.errors import ModelRefused, ToolchainError
from ollamaq.gguf.reader import read_gguf
from ollamaq.quantize import find_mix, make_plan, pipeline, write_plan
from ollamaq.source import open_source


@pytest.fixture
def source(tiny_checkpoint):
    return open_source(tiny_checkpoint())


@pytest.fixture
def plan(source):
    return make_plan(source.model, find_mix("Q4_K_M")[1])


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("threads", [1, 3, 16])
@pytest.mark.parametrize("max_memory", [1 << 12, 1 << 30])
def test_threads_and_memory_change_no_byte(threads, max_memory, plan, tmp_path):
    write_plan(tmp_path / "plain.gguf", plan)
    write_plan(tmp_path / "other.gguf", plan, threads=threads, max_memory=max_memory)
    assert digest(tmp_path / "other.gguf") == digest(tmp_path / "plain.gguf")


def test_progress_ends_at_the_size_of_the_tensors(plan, tmp_path):
    seen = []
    write_plan(tmp_path / "out.gguf", plan, max_memory=1 << 16, progress=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert seen[-1] == (plan.n_bytes, plan.n_bytes)


class Stopped(Exception):
    pass


def stop_after(count):
    calls = []

    def progress(done, total):
        calls.append(done)
        if len(calls) == count:
            raise Stopped

    return progress


@pytest.mark.parametrize("count", [1, 5, 12])
def test_an_interrupted_write_leaves_nothing(count, plan, tmp_path):
    before = sorted(tmp_path.iterdir())
    with pytest.raises(Stopped):
        write_plan(tmp_path / "out.gguf", plan, threads=1, progress=stop_after(count))
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("count", [1, 5, 12])
def test_an_interrupted_write_is_resumed_where_it_stopped(count, plan, tmp_path, monkeypatch):
    write_plan(tmp_path / "plain.gguf", plan)
    with pytest.raises(Stopped):
        write_plan(tmp_path / "out.gguf", plan, threads=1, resume="this", progress=stop_after(count))
    assert not (tmp_path / "out.gguf").exists()
    converted = []
    write = pipeline._Chunk.write
    monkeypatch.setattr(
        pipeline._Chunk, "write", lambda chunk, file: (converted.append(chunk.name), write(chunk, file))[1]
    )
    write_plan(tmp_path / "out.gguf", plan, threads=1, resume="this")
    assert len(set(converted)) == len(plan.tensors) - count
    assert digest(tmp_path / "out.gguf") == digest(tmp_path / "plain.gguf")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_another_input_is_not_mixed_with_what_was_left(plan, source, tmp_path):
    with pytest.raises(Stopped):
        write_plan(tmp_path / "out.gguf", plan, threads=1, resume="this", progress=stop_after(5))
    other = make_plan(source.model, find_mix("Q8_0")[1])
    for resume, changed in (("that", plan), ("this", other)):
        write_plan(tmp_path / "plain.gguf", changed)
        write_plan(tmp_path / "out.gguf", changed, resume=resume)
        assert digest(tmp_path / "out.gguf") == digest(tmp_path / "plain.gguf")


def test_a_partial_file_that_was_lost_is_made_anew(plan, tmp_path):
    write_plan(tmp_path / "plain.gguf", plan)
    with pytest.raises(Stopped):
        write_plan(tmp_path / "out.gguf", plan, threads=1, resume="this", progress=stop_after(5))
    (tmp_path / ".out.gguf.resume.partial").unlink()
    write_plan(tmp_path / "out.gguf", plan, resume="this")
    assert digest(tmp_path / "out.gguf") == digest(tmp_path / "plain.gguf")


def test_two_writers_of_one_resumed_file_are_kept_apart(plan, tmp_path):
    def second(done, total):
        with pytest.raises(ToolchainError, match=r"out\.gguf is being written by another process"):
            write_plan(tmp_path / "out.gguf", plan, resume="this")

    write_plan(tmp_path / "out.gguf", plan, threads=1, resume="this", progress=second)


def test_a_killed_process_leaves_nothing_under_the_name_and_is_resumed(tiny_checkpoint, tmp_path):
    checkpoint = tiny_checkpoint(config={"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 8})
    command = [
        sys.executable,
        "-m",
        "ollamaq",
        "quantize",
        str(checkpoint),
        str(tmp_path / "out.gguf"),
        "--resume",
        "-t",
        "1",
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    journal = tmp_path / ".out.gguf.resume.journal"
    deadline = time.monotonic() + 60
    while not journal.exists() or journal.read_text().count("\n") < 3:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out.gguf").exists()
    subprocess.run(command, check=True, capture_output=True)
    write_plan(tmp_path / "plain.gguf", make_plan(open_source(checkpoint).model, find_mix("Q4_K_M")[1]))
    assert digest(tmp_path / "out.gguf") == digest(tmp_path / "plain.gguf")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_weight_that_is_not_finite_is_refused_with_its_place(bad, tiny_checkpoint, write_safetensors, tmp_path):
    path = tiny_checkpoint(dtype="F32")
    tensors = {}
    for name, tensor in open_source(path).checkpoint.tensors.items():
        values = tensor.rows(0, tensor.n_rows)
        if name == "model.layers.1.mlp.up_proj.weight":
            values[7, 31] = bad
        tensors[name] = ("F32", tensor.shape, values.tobytes())
    write_safetensors(path / "model.safetensors", tensors)
    with pytest.raises(ModelRefused, match=rf"'blk\.1\.ffn_up\.weight' has {bad} at row 7, column 31"):
        write_plan(tmp_path / "out.gguf", make_plan(open_source(path).model, find_mix("Q4_K_M")[1]))
    assert not (tmp_path / "out.gguf").exists()


def test_what_is_written_reads_back(plan, tmp_path):
    size = write_plan(tmp_path / "out.gguf", plan)
    model = read_gguf(tmp_path / "out.gguf")
    assert (tmp_path / "out.gguf").stat().st_size == size
    assert [tensor.type for tensor in model.tensors] == [planned.type for planned in plan.tensors]
