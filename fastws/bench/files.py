"""Files of results: written aside, then renamed, so that a full disk leaves the last one whole.

Layer 6.
"""

import errno
import os
import stat
import tempfile
from contextlib import suppress

# A folder that may not be written to, and a file that is a mount of its own (of a container).
IN_PLACE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY)


def write_file(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file in place of the one that is there, which keeps its permissions.

    What is no plain file, such as a pipe or a terminal, is written to. So is a file that cannot be
    replaced, because of its folder or because it is mounted.

    Raises:
        OSError: it cannot be written; the file that was there is as it was.
    """
    target = os.path.realpath(path)  # a link stays one
    mode = _mode_of(target)
    if mode is not None and not stat.S_ISREG(mode):
        _write_in_place(path, data)
        return
    try:
        _replace(target, data, 0o666 & ~_umask() if mode is None else stat.S_IMODE(mode))
    except OSError as error:
        if error.errno not in IN_PLACE or mode is None:
            raise
        _write_in_place(target, data)


def _replace(target: str, data: bytes, mode: int) -> None:
    folder, name = os.path.split(target)
    fd, aside = tempfile.mkstemp(dir=folder, prefix=f".{name[:100]}.")
    try:
        with open(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(fd, mode)
            os.fsync(fd)  # some disks find out that they are full here
        os.replace(aside, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(aside)
        raise


def _write_in_place(path: str | os.PathLike[str], data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)


def _mode_of(path: str) -> int | None:
    try:
        return os.stat(path).st_mode
    except FileNotFoundError:
        return None


def _umask() -> int:
    """Return the umask, which can only be asked for by setting it."""
    umask = os.umask(0o077)
    os.umask(umask)
    return umask
