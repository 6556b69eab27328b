"""The floors of the house: imports, includes and cimports point down or stay on their floor.

A file that stands in no table fails by name, so the tables are kept; an entry may be there
before its file is.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "fastws"

# The C core; a header and its source are one entry.
NATIVE = {
    0: "status mask utf8 hist pace",
    1: "frame deflate",
    2: "message variant log outbox tick meter peers",
    3: "sys peers conn account policy topic source gather send poll close flush command accept "
    "engine engine_internal sweep receive http turn",
}
# Modules of the package, Cython ones included; "fastws" is the package's own face.
PYTHON = {
    # errors: text and numbers, what the faces raise
    4: "errors native _account _codec _connection _frame _topic",
    5: "origin config extensions messages handshake client_handshake http_api result_files",
    6: "listeners limit_log open_files handlers server app feed bench bench_clients bench_server",
    7: "cli cli.* fastws __main__",
}
# What a floor below may not know, and from which floor on it may.
SYSTEM_HEADERS = re.compile(r"sys/(socket|epoll|eventfd|timerfd|ioctl|uio)\.h|netinet/.*|unistd\.h")
SYSTEM_FLOOR = 3
IO_MODULES = {"asyncio", "selectors", "socket", "uvloop"}
IO_FLOOR = 6

INCLUDE = re.compile(r'^\s*#\s*include\s+["<]([^">]+)[">]', re.MULTILINE)
EXTERN = re.compile(r'^\s*cdef\s+extern\s+from\s+["\']([^"\']+)["\']', re.MULTILINE)
CIMPORT = re.compile(
    r"^\s*from\s+([\w.]+)\s+c?import\s+\(?([^#\n]+)|^\s*c?import\s+([\w., \t]+)", re.MULTILINE
)
C_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
CLAIM = re.compile(r"\bLayer (\d)\b")

NATIVE_FILES = sorted(PACKAGE.glob("native/*/*.[ch]"))
PYTHON_FILES = sorted(PACKAGE.rglob("*.py"))
CYTHON_FILES = sorted([*PACKAGE.rglob("*.pyx"), *PACKAGE.rglob("*.pxd")])


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def native_floor(stem: str) -> int | None:
    return next((floor for floor, stems in NATIVE.items() if stem in stems.split()), None)


def python_floor(module: str) -> int | None:
    """The floor of a module of the package, None when it stands in no table."""
    inner = module.removeprefix("fastws.")
    names = {inner, f"{inner.partition('.')[0]}.*" if "." in inner else inner}
    return next((floor for floor, table in PYTHON.items() if names & set(table.split())), None)


def floor_of(path: Path) -> int:
    stem = path.stem
    floor = native_floor(stem) if "native" in path.parts else python_floor(module_of(path))
    assert floor is not None, f"{name_of(path)} stands on no floor: add it to tests/test_layers.py"
    return floor


def is_module(module: str) -> bool:
    path = ROOT / module.replace(".", "/")
    return path.is_dir() or any(path.with_suffix(end).is_file() for end in (".py", ".pyx", ".pxd"))


def named_modules(origin: str, names: list[str]) -> Iterator[str]:
    """What `from origin import names` reaches: submodules where they are such, else the origin."""
    for name in names:
        submodule = f"{origin}.{name}"
        yield submodule if origin.startswith("fastws") and is_module(submodule) else origin


def python_imports(source: str, path: Path) -> Iterator[str]:
    """The full names of all modules that the source imports, wherever in it."""
    package = module_of(path) if path.name == "__init__.py" else module_of(path).rpartition(".")[0]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = node.module or ""
            if node.level:
                base = package.split(".")[: len(package.split(".")) - node.level + 1]
                origin = ".".join([*base, *filter(None, [origin])])
            yield from named_modules(origin, [alias.name for alias in node.names])


def cython_imports(source: str) -> Iterator[str]:
    """The full names of all modules that a .pyx or .pxd imports or cimports (absolutely)."""
    for origin, names, plain in CIMPORT.findall(source):
        wanted = [
            name.split()[0] for name in (names or plain).strip(" ()").split(",") if name.strip()
        ]
        if origin:
            assert not origin.startswith("."), f"a relative import in Cython: {origin}"
            yield from named_modules(origin, wanted)
        else:
            yield from wanted


def upward(path: Path, modules: Iterator[str]) -> list[str]:
    """The modules of the package that stand above the file."""
    own = floor_of(path)
    found = []
    for module in modules:
        if module == "fastws" or module.startswith("fastws."):
            floor = python_floor(module)
            assert floor is not None, f"{name_of(path)} imports {module}, which is on no floor"
            if floor > own:
                found.append(f"{module} (floor {floor})")
    return found


@pytest.mark.parametrize("path", NATIVE_FILES, ids=name_of)
def test_native_includes_point_down(path: Path) -> None:
    own = floor_of(path)
    for header in INCLUDE.findall(C_COMMENT.sub("", path.read_text())):
        assert header != "Python.h", f"{name_of(path)} knows Python"
        if (PACKAGE / "native" / header).is_file():
            floor = floor_of(PACKAGE / "native" / header)
            assert floor <= own, f"{name_of(path)} (floor {own}) includes {header} (floor {floor})"
        elif SYSTEM_HEADERS.fullmatch(header):
            assert own >= SYSTEM_FLOOR, f"{name_of(path)} (floor {own}) does I/O: {header}"


@pytest.mark.parametrize("path", NATIVE_FILES, ids=name_of)
def test_native_file_says_the_floor_it_stands_on(path: Path) -> None:
    own = floor_of(path)
    claims = {int(claim) for claim in CLAIM.findall(path.read_text())}
    assert claims <= {own}, f"{name_of(path)} says floor {claims}, the table says {own}"


@pytest.mark.parametrize("path", PYTHON_FILES, ids=name_of)
def test_python_imports_point_down(path: Path) -> None:
    own = floor_of(path)
    modules = set(python_imports(path.read_text(), path))
    assert not upward(path, iter(sorted(modules))), f"{name_of(path)} (floor {own}) looks up"
    if own < IO_FLOOR:
        assert not modules & IO_MODULES, f"{name_of(path)} (floor {own}) is bytes and objects only"


@pytest.mark.parametrize("path", CYTHON_FILES, ids=name_of)
def test_cython_imports_point_down(path: Path) -> None:
    source = path.read_text()
    found = upward(path, cython_imports(source))
    assert not found, f"{name_of(path)} looks up: {found}"
    for header in EXTERN.findall(source):
        if (PACKAGE / "native" / header).is_file():
            floor_of(PACKAGE / "native" / header)


@pytest.mark.parametrize("path", [*PYTHON_FILES, *CYTHON_FILES], ids=name_of)
def test_the_gil_is_released_in_frame_pyx_only(path: Path) -> None:
    if name_of(path) != "fastws/_frame.pyx":
        assert not re.search(r"^[^#]*\bwith\s+nogil\b", path.read_text(), re.MULTILINE)


@pytest.mark.parametrize(
    ("source", "reached"),
    [
        ("import fastws.server", "fastws.server"),
        ("from fastws import server", "fastws.server"),
        ("from . import server", "fastws.server"),
        ("from .server import Server", "fastws.server"),
        ("def late():\n    from fastws.server import Server", "fastws.server"),
    ],
)
def test_an_upward_import_is_found_in_every_spelling(
    source: str, reached: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{__name__}.is_module", lambda module: module == reached)
    path = PACKAGE / "errors.py"
    assert list(python_imports(source, path)) == [reached]
    assert upward(path, iter([reached])) == ["fastws.server (floor 6)"]


def test_an_upward_cimport_is_found() -> None:
    source = "from libc.stdint cimport uint64_t\nfrom fastws.config import Rate\n"
    assert upward(PACKAGE / "_frame.pyx", cython_imports(source)) == ["fastws.config (floor 5)"]
