"""The programs of ``integration/go``: each is asked line by line, in JSON, and answers so."""

import json
import subprocess
from typing import Any, Self

import parts


class GoProgram:
    """The process of ``integration/go/NAME``, whose log goes to ``LOG``."""

    NAME: str
    LOG: int | None = None

    def __init__(self) -> None:
        program = parts.go_program(self.NAME)
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.LOG)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.stdin.close()
        assert self.process.wait(10) == 0
        self.process.stdout.close()

    def answer(self, question: Any) -> Any:
        self.process.stdin.write(json.dumps(question).encode() + b"\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())
