"""What the compiler and the linker are asked for is in the extension that is tested."""

import struct
from pathlib import Path

import pytest

from fastws import _frame, _inbox, _ticks

DYNAMIC, GNU_STACK, GNU_RELRO = 2, 0x6474E551, 0x6474E552  # program headers
FLAGS, FLAGS_1, BIND_NOW, NOW, EXECUTABLE = 30, 0x6FFFFFFB, 8, 1, 1


class Elf:
    """The program headers of a 64-bit little-endian shared object, and its dynamic entries."""

    def __init__(self, path: Path) -> None:
        self.data = path.read_bytes()
        if self.data[:6] != b"\x7fELF\x02\x01":
            pytest.skip("not a 64-bit little-endian ELF file")
        (start,) = struct.unpack_from("<Q", self.data, 32)
        size, count = struct.unpack_from("<HH", self.data, 54)
        headers = [struct.unpack_from("<IIQQQQ", self.data, start + i * size) for i in range(count)]
        self.flags = {kind: flags for kind, flags, *_ in headers}
        at, n = next((h[2], h[5]) for h in headers if h[0] == DYNAMIC)
        self.dynamic = dict(struct.iter_unpack("<QQ", self.data[at : at + n]))


@pytest.mark.parametrize("module", [_frame, _inbox, _ticks])
def test_the_extension_is_hardened(module: object) -> None:
    elf = Elf(Path(module.__file__))  # type: ignore[attr-defined]
    assert GNU_RELRO in elf.flags
    assert elf.dynamic.get(FLAGS, 0) & BIND_NOW or elf.dynamic.get(FLAGS_1, 0) & NOW
    assert not elf.flags[GNU_STACK] & EXECUTABLE


def test_the_stack_is_protected_and_copies_are_checked() -> None:
    data = Elf(Path(_frame.__file__)).data
    if b"__asan_init" in data or b"__assert_fail" in data:
        pytest.skip("a build for sanitizers or with assertions is not hardened")
    assert b"__stack_chk_fail" in data
    assert b"_chk\0" in data.replace(b"__stack_chk_fail", b"")  # _FORTIFY_SOURCE
