"""A secret that stands in a file, where `ps` does not show it. Layer 7."""

import logging
import os
import stat

from fastws.errors import ConfigError

logger = logging.getLogger("fastws")

FIELD = "admin_token_file"
MOST = 4096  # bytes; more is no token


def read_token(path: str) -> str:
    """Return what stands in the file, without blanks and newlines around it.

    A file that others than its owner and group may read is said in the log.

    Raises:
        ConfigError: it cannot be read, or holds no token.
    """
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(MOST + 1).strip()
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise ConfigError(FIELD, f"cannot read {path!r}: {why}") from None
    if not content or len(content) > MOST or not all(33 <= byte <= 126 for byte in content):
        raise ConfigError(FIELD, f"{path!r} must hold visible ASCII without blanks")
    if stat.S_ISREG(mode) and mode & stat.S_IROTH:
        logger.warning("everybody may read the admin token in %r: chmod o-r would end that", path)
    return content.decode("ascii")
