"""Where an Ollama server is: OLLAMA_HOST as Ollama reads it (``Host`` and ``ConnectableHost`` of its envconfig)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from urllib.parse import quote

from ollamaq.errors import UsageError

DEFAULT_PORTS = {"http": "80", "https": "443"}
OLLAMA_PORT = "11434"
LOOPBACK = "127.0.0.1"
UNIX = "unix://"
UNPROXIED: Mapping[str, None] = dict.fromkeys(f"all://{host}" for host in ("localhost", LOOPBACK, "[::1]"))
"""For httpx: a proxy in the environment is not meant for this machine. Go's client, and so `ollama`, never asks it."""

_HOST_NAME = re.compile(r"[^\s/?#@:%\[\]\\]+")


def parse_host(text: str) -> str:
    """Base URL, without a slash at its end, that OLLAMA_HOST means to a client.

    As Ollama does, quotes and blanks around it are dropped, a port out of range becomes the default (11434, or that of
    a scheme that is written out), and an address to listen on everywhere becomes this machine's. What Ollama has not is
    ``unix:///path/of/a/socket``, at which a proxy in front of a server may listen.

    Raises:
        UsageError: no client could use it: another scheme than http and https, or not a host's name.
    """
    if text.startswith(UNIX):
        if not text.startswith(f"{UNIX}/"):
            raise UsageError(f"{text!r} names no socket", next_step="write unix:///path/of/the/socket")
        return text
    scheme, hostport, default_port = _scheme(text.strip().strip("\"'").strip())
    hostport, _, path = hostport.partition("/")
    if "@" in hostport:
        raise _unusable(text)
    host, port = _split(hostport) or (_bare(hostport), default_port)
    if not (re.fullmatch(r"\+?[0-9]+", port) and int(port) <= 65535):
        port = default_port
    path = quote(path.strip("/"), safe="/%:@!$&'()*+,;=~")
    return f"{scheme}://{_reachable(host, text)}:{int(port)}" + (f"/{path}" if path else "")


def _scheme(text: str) -> tuple[str, str, str]:
    scheme, separator, hostport = text.partition("://")
    if not separator:
        return ("https", "ollama.com:443", "443") if text == "ollama.com" else ("http", text, OLLAMA_PORT)
    if scheme not in DEFAULT_PORTS:
        raise UsageError(
            f"{text!r} cannot be reached: Ollama speaks http and https", next_step="write http://host:port"
        )
    return scheme, hostport, DEFAULT_PORTS[scheme]


def _split(hostport: str) -> tuple[str, str] | None:
    """Go's ``net.SplitHostPort``: None where there is no port, or more colons than one outside of brackets."""
    match = re.fullmatch(r"(?:\[([^\[\]]*)\]|([^:\[\]]*)):([^:\[\]]*)", hostport)
    return (match[1] or match[2] or "", match[3]) if match else None


def _bare(hostport: str) -> str:
    unbracketed = hostport.strip("[]")
    return unbracketed if _address(unbracketed) else hostport or LOOPBACK


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _reachable(host: str, text: str) -> str:
    address = _address(host or LOOPBACK)
    if address is None:
        if not _HOST_NAME.fullmatch(host):
            raise _unusable(text)
        return host
    if address.is_unspecified:
        address = ipaddress.ip_address(LOOPBACK if address.version == 4 else "::1")
    return str(address) if address.version == 4 else f"[{address}]"


def _unusable(text: str) -> UsageError:
    return UsageError(f"{text!r} is not the address of a server", next_step="write host:port or http://host:port")
