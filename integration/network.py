"""A network of its own for a server, behind a cable that can be pulled: a network namespace and a veth pair.

It needs root and iproute2; where the machine allows no namespaces, the tests that need one fail.
"""

from __future__ import annotations

import contextlib
import secrets
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import parts

RATE = "80mbit"
"""Slow enough for a cable to be pulled in the middle of some megabytes."""


@dataclass(frozen=True)
class Network:
    """``address`` is the other end's; ``inside`` goes before a command that runs there; ``name`` is ours."""

    name: str
    address: str

    @property
    def inside(self) -> list[str]:
        return ["ip", "netns", "exec", self.name]

    def pull(self) -> None:
        """Pull the cable at the other end: packets are lost, and nobody is told."""
        ip("-n", self.name, "link", "set", "there", "down")

    def plug(self) -> None:
        """Put it back, and wait until packets go through, whom this machine believes to be away meanwhile."""
        ip("-n", self.name, "link", "set", "there", "up")
        state = Path("/sys/class/net", self.name, "operstate")
        deadline = time.monotonic() + 30
        while state.read_text() != "up\n" and time.monotonic() < deadline:
            time.sleep(0.01)
        ip("neighbour", "flush", "dev", self.name)

    def passed(self) -> int:
        """Bytes that have gone through the cable, both ways."""
        counters = Path("/sys/class/net", self.name, "statistics")
        return sum(int((counters / name).read_text()) for name in ("tx_bytes", "rx_bytes"))

    def after(self, count: int, act: Callable[[], object]) -> threading.Thread:
        """Call ``act`` once so many more bytes have passed; join the thread to know that it has been called."""
        until = self.passed() + count

        def watch() -> None:
            deadline = time.monotonic() + 120
            while self.passed() < until and time.monotonic() < deadline:
                time.sleep(0.002)
            act()

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        return thread

    def pull_for(self, seconds: float) -> None:
        self.pull()
        time.sleep(seconds)
        self.plug()


@contextlib.contextmanager
def network() -> Iterator[Network]:
    """A network with nobody in it yet. It goes at the end, whoever is in it still."""
    parts.ip()
    number = secrets.randbelow(1 << 14)
    name, base = f"ollamaq{number}", f"198.18.{number >> 6}"  # of RFC 2544's range, which nobody routes
    here, there = (f"{base}.{(number & 63) * 4 + i}" for i in (1, 2))
    with contextlib.ExitStack() as stack:
        ip("netns", "add", name)
        stack.callback(ip, "netns", "delete", name)
        ip("link", "add", name, "type", "veth", "peer", "name", "there", "netns", name)
        stack.callback(ip, "link", "delete", name)
        ip("address", "add", f"{here}/30", "dev", name)
        ip("-n", name, "address", "add", f"{there}/30", "dev", "there")
        for device in ("lo", "there"):
            ip("-n", name, "link", "set", device, "up")
        ip("link", "set", name, "up")
        shape = ("root", "tbf", "rate", RATE, "burst", "128k", "latency", "200ms")
        for where in (("tc", "qdisc", "add", "dev", name), ("tc", "-n", name, "qdisc", "add", "dev", "there")):
            _run(*where, *shape)
        yield Network(name, there)


def ip(*arguments: str) -> None:
    """Run ``ip``, which must succeed."""
    _run("ip", *arguments)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}"
