"""Where a ws URL points (RFC 6455 3). Layer 5."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from fastws.errors import ConfigError, printable


@dataclass(frozen=True, slots=True)
class Url:
    """Where a ws URL points: `host` without brackets, `target` with the query.

    The host of an address of one link has its scope behind it: `fe80::1%eth0`.
    """

    host: str
    port: int
    target: str


def parse_url(url: str) -> Url:
    """Parse `ws://host[:port][/path][?query]`; the port is 80 unless given (RFC 6455 3).

    `ws://[fe80::1%25eth0]:8080` and, as people write it, `ws://[fe80::1%eth0]:8080` have a scope.

    Raises:
        ConfigError: field "url": not a ws URL, wss, a fragment, user information, bad port.
    """
    if not all("!" <= char <= "~" for char in url):
        raise ConfigError("url", "must be printable ASCII without blanks")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigError("url", printable(str(error))) from None
    if parts.scheme == "wss":
        raise ConfigError("url", "wss is not supported, only ws")
    if parts.scheme != "ws" or not host:
        raise ConfigError("url", "must look like ws://host:port/path")
    if "#" in url or "@" in parts.netloc:
        raise ConfigError("url", "must not have a fragment or user information")
    if port == 0:
        raise ConfigError("url", "port must be from 1 to 65535")
    target = (parts.path or "/") + ("?" + parts.query if parts.query else "")
    if ":" in host:
        host = host.replace("%25", "%", 1)  # RFC 6874 2
    return Url(host, 80 if port is None else port, target)
