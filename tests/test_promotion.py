"""From a staging name to the final one and back: the old model answers until the new one does, and nothing is lost."""

import contextlib
import os
import subprocess
import sys

import pytest

from ollamaq.errors import ServerError, ToolchainError, UsageError
from ollamaq.locks import abandoned, locked
from ollamaq.promotion import rollback, staging, switch


class Names:
    """A target of which only names and digests matter; ``lost`` ends it after so many changes."""

    label = "names"

    def __init__(self, lost=None, **models):
        self.models, self.lost, self.history = models, lost, []

    def digest(self, name):
        return self.models.get(name)

    def copy(self, source, destination):
        self._change()
        self.models[destination] = self.models[source]

    def delete(self, name):
        self._change()
        del self.models[name]

    def _change(self):
        if self.lost is not None:
            self.lost -= 1
            if self.lost < 0:
                raise ServerError("the server is gone")


def publish(target, sha256, *, keep=0, name="bot:prod"):
    with staging(target, [name], keep=keep) as staged:
        target.models[staged.stage(name)] = sha256
        return staged.promote()[name]


def test_versions_before_are_kept_as_many_as_asked():
    target = Names()
    for version in "abcde":
        assert publish(target, version, keep=2) == version
    assert target.models == {"bot:prod": "e", "bot:prod-prev-1": "d", "bot:prod-prev-2": "c"}
    publish(target, "f", keep=1)
    assert target.models == {"bot:prod": "f", "bot:prod-prev-1": "e"}


def test_publishing_the_same_again_is_no_new_version():
    target = Names()
    for version in "abb":
        publish(target, version, keep=2)
    assert target.models == {"bot:prod": "b", "bot:prod-prev-1": "a"}


def test_going_back_loses_nothing_and_comes_round():
    target = Names(**{"bot:prod": "c", "bot:prod-prev-1": "b", "bot:prod-prev-2": "a"})
    assert [rollback(target, "bot:prod") for _ in range(3)] == [("c", "b"), ("b", "a"), ("a", "c")]
    assert target.models == {"bot:prod": "c", "bot:prod-prev-1": "b", "bot:prod-prev-2": "a"}


def test_a_deleted_model_comes_back():
    target = Names(**{"bot:prod-prev-1": "b", "bot:prod-prev-2": "a"})
    assert rollback(target, "bot:prod") == (None, "b")
    assert target.models == {"bot:prod": "b", "bot:prod-prev-1": "a"}


def test_without_a_version_before_there_is_no_way_back():
    target = Names(**{"bot:prod": "a"})
    with pytest.raises(ServerError, match="no version of bot:prod before") as refused:
        rollback(target, "bot:prod")
    assert "--keep" in refused.value.next_step


@pytest.mark.parametrize("lost", range(5))
def test_a_server_lost_at_any_step_has_the_old_model_or_the_new(lost):
    target = Names(lost, **{"bot:prod": "b", "bot:prod-prev-1": "a"})
    with contextlib.suppress(ServerError):
        publish(target, "c", keep=2)
    assert target.models["bot:prod"] in ("b", "c")
    assert "b" in target.models.values()
    target.lost = None
    assert publish(target, "c", keep=2) == "c"
    assert target.models == {"bot:prod": "c", "bot:prod-prev-1": "b", "bot:prod-prev-2": "a"}


def test_somebody_elses_model_is_not_replaced():
    target = Names(**{"bot:prod": "a"})
    with staging(target, ["bot:prod"]) as staged:
        target.models[staged.stage("bot:prod")] = "b"
        target.models["bot:prod"] = "theirs"
        with pytest.raises(ServerError, match="somebody else has published bot:prod"):
            staged.promote()
    assert target.models == {"bot:prod": "theirs"}
    with pytest.raises(ServerError, match="somebody else"):
        switch(target, "bot:prod", "bot:other", "seen before")


def test_of_two_names_none_is_switched_when_somebody_has_taken_one():
    target = Names(**{"bot:a": "1", "bot:b": "1"})
    with staging(target, ["bot:b", "bot:a"]) as staged:
        for name in ("bot:a", "bot:b"):
            target.models[staged.stage(name)] = "2"
        target.models["bot:b"] = "theirs"
        with pytest.raises(ServerError, match="bot:b"):
            staged.promote()
    assert target.models == {"bot:a": "1", "bot:b": "theirs"}


def test_what_a_killed_process_has_staged_is_removed_by_the_next():
    killed = Names(**{"bot:prod": "a"})
    with staging(killed, ["bot:prod"]) as staged:
        left = staged.stage("bot:prod")
        killed.models[left] = "half"
        killed.lost = 0  # as if it was killed here: nothing is cleaned up
    assert left in killed.models
    killed.lost = None
    assert publish(killed, "b") == "b"
    assert killed.models == {"bot:prod": "b"}


def left_behind(target, name):
    with staging(target, [name]) as staged:
        left = staged.stage(name)
        target.models[left] = "half"
        target.lost = 0
    target.lost = None
    return left


def test_what_is_left_of_other_names_is_removed_too_but_not_from_another_target():
    server, other = Names(), Names()
    other.label = "another"
    left, elsewhere = left_behind(server, "bot:prod"), left_behind(other, "bot:prod")
    server.models[elsewhere] = "theirs"
    assert publish(server, "b", name="cat:prod") == "b"
    assert left not in server.models
    assert server.models[elsewhere] == "theirs"
    publish(other, "b", name="cat:prod")
    assert other.models == {"cat:prod": "b"}


def test_a_model_that_is_tried_again_otherwise_leaves_nothing_behind():
    target = Names()
    with staging(target, ["bot:prod"]) as staged:
        for attempt in "ab":
            target.models[staged.stage("bot:prod")] = attempt
    assert target.models == {}


def test_what_another_publisher_is_at_work_with_is_never_removed(tmp_path, monkeypatch):
    target = Names()
    with staging(target, ["bot:prod"]) as staged:
        target.models[staged.stage("bot:prod")] = "b"
        publish(target, "c", name="cat:prod")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another user's"))
        publish(target, "b")
        assert "b" in (target.models[waiting] for waiting in staged.staged.values())


def test_a_tag_too_long_for_kept_versions_is_refused_before_any_work():
    with pytest.raises(UsageError, match="tag"), staging(Names(), ["bot:" + "x" * 75], keep=1):
        pytest.fail("it began")


HOLD = (
    "import sys; from ollamaq.locks import locked\nwith locked('x') as lock: lock.write('mine'); print(1, flush=True); "
)


def test_a_lock_is_waited_for_and_ends_with_its_process():
    waited = []
    command = [sys.executable, "-c", HOLD + "sys.stdin.read()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"1\n"
        with locked("y"):
            pass
        with locked("x", waiting=lambda: waited.append(holder.kill())) as lock:
            assert lock.note == "mine"
            lock.write("")
            assert lock.note == ""
    assert waited == [None]


def test_a_lock_is_abandoned_when_its_holder_has_died_over_what_its_note_tells(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "no such place"))
    with locked("done") as lock:
        lock.write("")
    command = [sys.executable, "-c", HOLD + "sys.stdin.read()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        assert list(abandoned()) == []
        holder.kill()
        holder.wait()
        assert [lock.note for lock in abandoned()] == ["mine"]


def test_locks_of_somebody_else_are_not_ours_to_take_up(monkeypatch, tmp_path):
    with locked("x") as lock:
        lock.write("mine")
    assert [lock.note for lock in abandoned()] == ["mine"]
    monkeypatch.setattr("os.getuid", lambda: 4711)
    assert list(abandoned()) == []


@pytest.mark.skipif(os.getuid() == 0, reason="root writes everywhere")
def test_without_a_place_for_locks_that_is_said(monkeypatch, tmp_path):
    tmp_path.chmod(0o500)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    with pytest.raises(ToolchainError, match="cannot lock"), locked("x"):
        pass


def test_locks_go_elsewhere_where_the_cache_cannot_be_written(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    with locked("x") as lock:
        lock.write("begun")
        assert lock.note == "begun"
