"""Changes a tensor of a safetensors file in place, to break a model on purpose."""

import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def edit_tensor(path: Path, name: str, change: Callable[[NDArray[np.uint16]], NDArray[np.uint16]]) -> None:
    """Replace the 16-bit values of a tensor by ``change`` of their bits."""
    with path.open("r+b") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        begin, end = json.loads(file.read(length))[name]["data_offsets"]
        file.seek(8 + length + begin)
        bits = np.frombuffer(file.read(end - begin), np.uint16)
        file.seek(8 + length + begin)
        file.write(change(bits).tobytes())
