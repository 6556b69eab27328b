"""Builds fastws._frame, the one extension; everything else stands in pyproject.toml.

Switches from the environment (run `make clean` between different ones):
    FASTWS_DEBUG=1                      no optimisation, full debug information, assertions
    FASTWS_SANITIZE=address,undefined   instruments with these sanitizers of the compiler
    FASTWS_TRACE=1                      Cython line tracing, for coverage of _frame.pyx
    CFLAGS, LDFLAGS                     are added as always (-march=native is never a default)
"""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

os.chdir(Path(__file__).parent)

COMPILE = ["-std=gnu11", "-fvisibility=hidden", "-Wall", "-Wextra"]


def switched_on(name: str) -> bool:
    return os.environ.get(name, "0") not in ("", "0")


def main() -> None:
    debug, trace = switched_on("FASTWS_DEBUG"), switched_on("FASTWS_TRACE")
    sanitizers = os.environ.get("FASTWS_SANITIZE", "")
    compile_args = [*COMPILE, *(["-O0", "-g3", "-UNDEBUG"] if debug else ["-O3"])]
    link_args = ["-pthread"]
    if sanitizers:
        instrument = [f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all"]
        compile_args += [*instrument, "-g", "-fno-omit-frame-pointer"]
        link_args += instrument
    extension = Extension(
        "fastws._frame",
        sources=["fastws/_frame.pyx", *sorted(map(str, Path("fastws/native").glob("*.c")))],
        depends=sorted(
            str(path)
            for pattern in ("fastws/native/*.h", "fastws/*.pxd")
            for path in Path().glob(pattern)
        ),
        include_dirs=["fastws/native"],
        define_macros=[("CYTHON_TRACE_NOGIL", "1")] if trace else [],
        extra_compile_args=compile_args,
        extra_link_args=link_args,
    )
    setup(
        ext_modules=cythonize(
            [extension],
            compiler_directives={"language_level": 3, "linetrace": trace},
            force=trace,
        )
    )


main()
