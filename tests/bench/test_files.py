"""Files of results are whole or as they were."""

import os
import stat
import threading
from pathlib import Path

import pytest

from fastws.bench.files import write_file


def test_a_new_file_has_the_permissions_of_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    before = os.umask(0o027)
    try:
        write_file(path, b"{}\n")
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)
    assert path.read_bytes() == b"{}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert list(tmp_path.iterdir()) == [path]


def test_another_file_takes_the_place_of_the_old_one_with_its_permissions(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_bytes(b"old and longer")
    path.chmod(0o604)
    with path.open("rb") as reader:
        write_file(str(path), b"new")
        assert reader.read() == b"old and longer"  # who reads it meanwhile has it whole
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o604


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_as_it_was(
    tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "result.json"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, step, full)
    with pytest.raises(OSError, match="No space left"):
        write_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_link_points_to_is_replaced_and_not_the_link(tmp_path: Path) -> None:
    link, path = tmp_path / "latest", tmp_path / "result.json"
    link.symlink_to(path.name)
    write_file(link, b"first")
    write_file(link, b"second")
    assert link.is_symlink()
    assert path.read_bytes() == b"second"


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(path.read_bytes()))
    reader.start()
    write_file(path, b"through it")
    reader.join()
    assert read == [b"through it"]
    assert stat.S_ISFIFO(path.stat().st_mode)
    write_file("/dev/null", b"nowhere")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


@pytest.mark.parametrize("error", [13, 16, 30])  # EACCES, EBUSY, EROFS
def test_a_file_that_cannot_be_replaced_is_written_in_its_place(
    tmp_path: Path, error: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(error, os.strerror(error))

    path = tmp_path / "result.json"
    path.write_bytes(b"old and longer")
    inode = path.stat().st_ino
    monkeypatch.setattr(os, "replace", refuse)
    write_file(path, b"new")
    assert (path.read_bytes(), path.stat().st_ino) == (b"new", inode)
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_not_there_is_an_error_and_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_file(tmp_path / "none" / "result.json", b"{}")
    assert list(tmp_path.iterdir()) == []
