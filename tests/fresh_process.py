"""Fresh processes without the seconds that importing torch takes: one that has imported it alone forks the others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

_SERVER = """
import json, os, signal, sys, tempfile, traceback, types
import torch

def run(code, arguments, outputs):
    for number, file in enumerate(outputs, start=1):
        os.dup2(file.fileno(), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.argv = ["-c", *arguments]
    signal.alarm(200)
    status = 1
    try:
        sys.modules["__main__"] = main = types.ModuleType("__main__")
        exec(compile(code, "<string>", "exec"), vars(main))
        status = 0
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)

while line := sys.stdin.readline():
    request, started = json.loads(line), []
    for arguments in request["arguments"]:
        outputs = [tempfile.TemporaryFile(), tempfile.TemporaryFile()]
        child = os.fork()
        if not child:
            run(request["code"], arguments, outputs)
        started.append((child, outputs))
    answers = []
    for child, outputs in started:
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        for file in outputs:
            file.seek(0)
        answers.append([status, *[file.read().decode() for file in outputs]])
    print(json.dumps(answers), flush=True)
"""


class Ran(NamedTuple):
    """What a process ended with, and what it wrote."""

    returncode: int
    stdout: str
    stderr: str


class FreshProcesses:
    """Runs code in processes in which torch has been imported, and nothing of this package."""

    def __init__(self) -> None:
        env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._server = subprocess.Popen([sys.executable, "-c", _SERVER], text=True, env=env, **pipes)  # type: ignore[call-overload]

    def __enter__(self) -> FreshProcesses:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.communicate()  # it ends where its input does

    def run(self, code: str, *arguments: str) -> Ran:
        """Run code in one process, with ``sys.argv[1:]``."""
        (ran,) = self.run_together(code, [arguments])
        return ran

    def run_together(self, code: str, arguments: list[tuple[str, ...]]) -> list[Ran]:
        """Run the same code in several processes at once, each with arguments of its own."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps({"code": code, "arguments": arguments}) + "\n")
        self._server.stdin.flush()
        return [Ran(*answer) for answer in json.loads(self._server.stdout.readline())]
