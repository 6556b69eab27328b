"""The layers of the architecture: imports, includes and cimports point down or stay in their layer.

A file that is in no table fails by name, so the tables are kept; an entry may be there before
its file. Inside layer 3 the files share headers, so there it is the calls that point down.
"""

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "fastws"
CORE = PACKAGE / "native" / "core"

# The C core; a header and its source are one entry.
NATIVE = {
    0: "status link mask utf8 hash hist pace",
    1: "frame deflate envelope",
    2: "message encode variant log ring ranks keys filter outbox tick tick_vector tick_check meter",
    3: "sys peers conn rest sub subs place account policy keep variants topics topic publish "
    "commit source gather send poll close rate allowance throttle unread shed buffers deadline "
    "flush command staging accept engine engine_state engine_internal facts sweep losses room "
    "wildcards sample receive http turn",
}
# Order inside layer 3, the highest file first: a file calls functions of files below it only.
ORDER = (
    "turn http receive engine sweep flush shed staging command accept poll unread throttle close "
    "send source gather commit wildcards room topic publish policy facts deadline account buffers "
    "conn rest subs topics keep place variants losses sample allowance peers rate sys"
)
# Modules of the package, Cython ones included; "fastws" is the public interface.
PYTHON = {
    # errors: text and numbers, what the bindings raise
    4: "errors checks lag native _frame _ticks",
    5: "http http.* client.url client.handshake client.place server.limits "
    "ticks.config ticks.access ticks.api ticks.reports ticks.console "
    "feeds.delivery feeds.page lines.config lines.splitter lines.api "
    "bench.results bench.verdict bench.search bench.numbers",
    6: "_inbox server server.* client client.* ticks ticks.* feeds feeds.* lines lines.* "
    "bench bench.*",
    7: "cli cli.* fastws __main__",
}
# What the layers below may not know, and the lowest layer that may.
SYSTEM_HEADERS = re.compile(r"sys/(socket|epoll|eventfd|timerfd|ioctl|uio)\.h|netinet/.*|unistd\.h")
SYSTEM_LAYER = 3
IO_MODULES = {"asyncio", "selectors", "socket", "uvloop"}
IO_LAYER = 6

INCLUDE = re.compile(r'^\s*#\s*include\s+["<]([^">]+)[">]', re.MULTILINE)
EXTERN = re.compile(r'^\s*cdef\s+extern\s+from\s+["\']([^"\']+)["\']', re.MULTILINE)
CIMPORT = re.compile(
    r"^\s*from\s+([\w.]+)\s+c?import\s+\(?([^#\n]+)|^\s*c?import\s+([\w., \t]+)", re.MULTILINE
)
C_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
CLAIM = re.compile(r"\bLayer (\d)\b")

# A definition in the shape of .clang-format: its head, its name, its body.
FUNCTION = re.compile(
    r"^([a-z][^\n;{}=]*?\b(?!__)(\w+)\([^;{}]*?\))\n\{\n(.*?)^\}", re.DOTALL | re.MULTILINE
)
CALL = re.compile(r"\b(\w+)\(")

NATIVE_FILES = sorted(PACKAGE.glob("native/*/*.[ch]"))
PYTHON_FILES = sorted(PACKAGE.rglob("*.py"))
CYTHON_FILES = sorted([*PACKAGE.rglob("*.pyx"), *PACKAGE.rglob("*.pxd")])


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def native_layer(stem: str) -> int | None:
    return next((layer for layer, stems in NATIVE.items() if stem in stems.split()), None)


def python_layer(module: str) -> int | None:
    """The layer of a module of the package, None when it is in no table; its own name counts."""
    inner = module.removeprefix("fastws.")
    for name in (inner, f"{inner.partition('.')[0]}.*"):
        for layer, table in PYTHON.items():
            if name in table.split() and (name == inner or "." in inner):
                return layer
    return None


def layer_of(path: Path) -> int:
    stem = path.stem
    layer = native_layer(stem) if "native" in path.parts else python_layer(module_of(path))
    assert layer is not None, f"{name_of(path)} is in no layer: add it to tests/test_layers.py"
    return layer


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
    """The modules of the package in layers above the file's."""
    own = layer_of(path)
    found = []
    for module in modules:
        if module == "fastws" or module.startswith("fastws."):
            layer = python_layer(module)
            assert layer is not None, f"{name_of(path)} imports {module}, which is in no layer"
            if layer > own:
                found.append(f"{module} (layer {layer})")
    return found


@pytest.mark.parametrize("path", NATIVE_FILES, ids=name_of)
def test_native_includes_point_down(path: Path) -> None:
    own = layer_of(path)
    for header in INCLUDE.findall(C_COMMENT.sub("", path.read_text())):
        assert header != "Python.h", f"{name_of(path)} knows Python"
        if (PACKAGE / "native" / header).is_file():
            layer = layer_of(PACKAGE / "native" / header)
            assert layer <= own, f"{name_of(path)} (layer {own}) includes {header} (layer {layer})"
        elif SYSTEM_HEADERS.fullmatch(header):
            assert own >= SYSTEM_LAYER, f"{name_of(path)} (layer {own}) does I/O: {header}"


@pytest.mark.parametrize("path", NATIVE_FILES, ids=name_of)
def test_native_file_says_its_layer(path: Path) -> None:
    own = layer_of(path)
    claims = {int(claim) for claim in CLAIM.findall(path.read_text())}
    assert claims <= {own}, f"{name_of(path)} says layer {claims}, the table says {own}"


def functions(source: str) -> Iterator[tuple[str, bool, set[str]]]:
    """The functions that a C file defines: name, whether it is static, the names it calls."""
    for head, name, body in FUNCTION.findall(C_COMMENT.sub(" ", source)):
        yield name, "static" in head.split(), set(CALL.findall(body))


def calls_between(sources: dict[str, str]) -> Iterator[tuple[str, str, str, str]]:
    """(file, caller, other file, callee) of all calls from one .c file into another.

    An inline function of a header stands for the calls that it makes.
    """
    found = {path: list(functions(source)) for path, source in sources.items()}
    inline = {
        name: called
        for path, each in found.items()
        if path.endswith(".h")
        for name, _, called in each
    }
    home = {
        name: path
        for path, each in found.items()
        if path.endswith(".c")
        for name, static, _ in each
        if not static
    }
    for path in filter(lambda path: path.endswith(".c"), found):
        own = {name for name, _, _ in found[path]}
        for caller, _, called in found[path]:
            while reached := called & inline.keys():
                called = (called - reached).union(*(inline[name] for name in reached))
            for callee in sorted((called & home.keys()) - own):
                yield path, caller, home[callee], callee


def core_calls() -> list[tuple[str, str, str, str]]:
    sources = {path.name: path.read_text() for path in sorted(CORE.glob("*.[ch]"))}
    return [
        (path.removesuffix(".c"), caller, other.removesuffix(".c"), callee)
        for path, caller, other, callee in calls_between(sources)
    ]


def test_every_file_of_layer_3_has_a_place_in_its_order() -> None:
    assert sorted(ORDER.split()) == sorted(path.stem for path in CORE.glob("*.c"))


def test_calls_inside_layer_3_point_down() -> None:
    calls, order = core_calls(), ORDER.split()
    assert len(calls) > 150  # the parser has not lost the code
    upward = {
        (caller, callee): f"{caller} of {path}.c calls {callee} of {other}.c"
        for path, caller, other, callee in calls
        if order.index(other) < order.index(path)
    }
    assert not upward, list(upward.values())


def test_calls_inside_layer_3_make_no_circle() -> None:
    below: dict[str, set[str]] = {}
    for path, _caller, other, _callee in core_calls():
        below.setdefault(path, set()).add(other)
    tuple(TopologicalSorter(below).static_order())  # CycleError names the files


def test_a_call_from_file_to_file_is_found_through_an_inline_function() -> None:
    sources = {
        "low.h": "static inline int fws_twice(int n)\n{\n    return fws_low(n) * 2;\n}\n",
        "low.c": "int fws_low(int n)\n{\n    return n; /* fws_high(n) */\n}\n",
        "high.c": "static int own(int n)\n{\n    return fws_twice(n);\n}\n\n"
        "int fws_high(int n)\n{\n    return own(n) + fws_low(n);\n}\n",
    }
    assert list(calls_between(sources)) == [
        ("high.c", "own", "low.c", "fws_low"),
        ("high.c", "fws_high", "low.c", "fws_low"),
    ]


def test_the_architecture_names_each_module_of_the_server() -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text()
    _, _, table = page.partition("| `server/` | what it does |\n")
    rows = table.partition("\n\n")[0].splitlines()[1:]
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])]
    there = [path.stem for path in (PACKAGE / "server").glob("*.py") if path.stem != "__init__"]
    assert sorted(named) == sorted(there)


def test_the_architecture_names_no_file_that_is_not_there() -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text()
    for name in re.findall(
        r"`((?:core|log|wire|feed|http|server|client|ticks|cli)/\w+\.\w+)`", page
    ):
        assert (PACKAGE / name).is_file() or (PACKAGE / "native" / name).is_file(), name


@pytest.mark.parametrize("path", PYTHON_FILES, ids=name_of)
def test_python_imports_point_down(path: Path) -> None:
    own = layer_of(path)
    modules = set(python_imports(path.read_text(), path))
    assert not upward(path, iter(sorted(modules))), f"{name_of(path)} (layer {own}) looks up"
    if own < IO_LAYER:
        assert not modules & IO_MODULES, f"{name_of(path)} (layer {own}) is bytes and objects only"


@pytest.mark.parametrize("path", CYTHON_FILES, ids=name_of)
def test_cython_imports_point_down(path: Path) -> None:
    source = path.read_text()
    found = upward(path, cython_imports(source))
    assert not found, f"{name_of(path)} looks up: {found}"
    for header in EXTERN.findall(source):
        if (PACKAGE / "native" / header).is_file():
            layer_of(PACKAGE / "native" / header)


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
    assert upward(path, iter([reached])) == ["fastws.server (layer 6)"]


def test_an_upward_cimport_is_found() -> None:
    source = "from libc.stdint cimport uint64_t\nfrom fastws.ticks.config import Rate\n"
    assert upward(PACKAGE / "_frame.pyx", cython_imports(source)) == [
        "fastws.ticks.config (layer 5)"
    ]
