"""Commands as they are typed, run in this process: a process of its own takes a second."""

import os
import sys
from collections.abc import Callable
from typing import NamedTuple

import pytest

from fastws.cli import main


class Done(NamedTuple):
    """How a command ended."""

    status: object
    output: str
    errors: str


Type = Callable[..., Done]


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Type:
    """Runs `fastws` with arguments, and variables by name, to its end."""

    def run(*arguments: str, **variables: str) -> Done:
        with monkeypatch.context() as patched:
            for name in list(os.environ):
                if name.startswith("FASTWS_") or name == "SERVER_MODE":
                    patched.delenv(name)
            for name, value in variables.items():
                patched.setenv(name, value)
            patched.setattr(sys, "argv", ["fastws", *arguments])
            with pytest.raises(SystemExit) as caught:
                main()
        output, errors = capsys.readouterr()
        return Done(caught.value.code, output, errors)

    return run
