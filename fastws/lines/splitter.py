"""From bytes that come in pieces to whole lines of UTF-8. Layer 5: bytes to bytes."""

NEWLINE, RETURN = b"\n", b"\r"


class LineSplitter:
    r"""Cuts a stream of bytes into lines, each of them valid UTF-8 and bounded.

    A line ends with \n or \r\n, which is not part of it; an empty line is a line. One that is
    longer than `max_line` is cut there, at the character's border. What is not UTF-8 in a line
    becomes U+FFFD.

    Args:
        max_line: bytes of a line, more than 3.
    """

    def __init__(self, max_line: int) -> None:
        self._max_line = max_line
        self._rest = bytearray()  # of the line that has not ended: one byte too many at most
        self._more = False  # there was more of it, which is gone
        self.lines = 0
        self.not_utf8 = self.cut = 0  # lines
        self.first_not_utf8 = self.first_cut = 0  # numbers of lines, from 1; 0: none

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next piece; return the lines that have ended."""
        end = data.rfind(NEWLINE)
        if end < 0:
            self._keep(data)
            return []
        first = data.find(NEWLINE)
        self._keep(data[:first])
        block = self._take_rest() + data[first:end]
        lines = self._lines_of(block)
        self._keep(data[end + 1 :])
        return lines

    def finish(self) -> list[bytes]:
        """Return the last line, if it has no newline; the next piece begins a new one."""
        return self._lines_of(self._take_rest()) if self._rest else []

    def _keep(self, data: bytes) -> None:
        room = self._max_line + 1 - len(self._rest)
        self._rest += data[:room]
        self._more = self._more or len(data) > room

    def _take_rest(self) -> bytes:
        rest = bytes(self._rest)
        if self._more:
            rest += b"x"  # so that a \r in front of it does not count as the end of the line
        self._rest.clear()
        self._more = False
        return rest

    def _lines_of(self, block: bytes) -> list[bytes]:
        if RETURN in block:
            block = (block + NEWLINE).replace(RETURN + NEWLINE, NEWLINE)[:-1]
        lines = block.split(NEWLINE)
        if max(map(len, lines)) > self._max_line or not _is_utf8(block):
            lines = [self._checked(line, self.lines + i) for i, line in enumerate(lines, 1)]
        self.lines += len(lines)
        return lines

    def _checked(self, line: bytes, number: int) -> bytes:
        if len(line) > self._max_line:
            self.cut += 1
            self.first_cut = self.first_cut or number
            line = line[: _border(line, self._max_line)]
        if not _is_utf8(line):
            self.not_utf8 += 1
            self.first_not_utf8 = self.first_not_utf8 or number
            line = line.decode(errors="replace").encode()
        return line


def _is_utf8(data: bytes) -> bool:
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _border(line: bytes, at: int) -> int:
    """Return `at`, or where the character begins that it is in the middle of."""
    for start in range(at, at - 4, -1):
        if line[start] & 0xC0 != 0x80:
            return start
    return at  # no character of UTF-8 has so many bytes
