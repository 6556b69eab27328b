"""The cloned tree without its extension: what Python says when it imports that."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fastws


@pytest.mark.parametrize(
    "arguments", [("-c", "import fastws"), ("-m", "fastws", "serve"), ("-c", "import fastws.cli")]
)
def test_a_tree_without_its_extension_says_what_to_do(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    tree = tmp_path / "tree"
    source = Path(fastws.__file__).parent
    shutil.copytree(source, tree / "fastws", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    # -S: without the hook of an editable install, which finds the extension of another tree.
    done = subprocess.run(
        [sys.executable, "-S", *arguments], cwd=tree, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert f"no compiled extension in {tree / 'fastws'}" in last
    assert "work in another directory" in last
    assert "pip install -e ." in last
