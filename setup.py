"""Builds the extensions; everything else stands in pyproject.toml.

Switches from the environment (run `make clean` between different ones):
    FASTWS_DEBUG=1                      no optimisation, full debug information, assertions
    FASTWS_SANITIZE=address,undefined   instruments with these sanitizers of the compiler
    FASTWS_NO_DEFLATE=1                 without compression, as where zlib's header is missing
    FASTWS_TRACE=1                      Cython line tracing, for coverage of the .pyx files
    CFLAGS, LDFLAGS                     are added as always (-march=native is never a default)
"""

import os
from glob import glob
from pathlib import Path
from tempfile import TemporaryDirectory

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools._distutils.ccompiler import new_compiler
from setuptools._distutils.sysconfig import customize_compiler

os.chdir(Path(__file__).parent)


def native(*names: str) -> list[str]:
    return [f"fastws/native/{name}.c" for name in names]


EXTENSIONS = {
    "_frame": sorted(glob("fastws/native/*/*.c")),
    "_ticks": native("wire/frame", "wire/mask", "feed/tick", "feed/tick_vector"),
    "_inbox": [],
}
# Coverage.py knows the settrace of old, not sys.monitoring, in C.
TRACED = [("CYTHON_TRACE_NOGIL", "1"), ("CYTHON_USE_SYS_MONITORING", "0")]
COMPILE = ["-std=gnu11", "-fvisibility=hidden", "-Wall", "-Wextra"]
# Needs optimisation; -Wno-cpp: an older compiler takes 3 for 2, and would say so in each file.
HARDENED = ["-fstack-protector-strong", "-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=3", "-Wno-cpp"]


def switched_on(name: str) -> bool:
    return os.environ.get(name, "0") not in ("", "0")


def has_zlib() -> bool:
    customize_compiler(compiler := new_compiler())
    with TemporaryDirectory() as compiler.output_dir:  # it leaves objects behind
        return bool(compiler.has_function("zlibVersion", includes=["zlib.h"], libraries=["z"]))


def main() -> None:
    debug, trace = switched_on("FASTWS_DEBUG"), switched_on("FASTWS_TRACE")
    sanitizers = os.environ.get("FASTWS_SANITIZE", "")
    compile_args = [*COMPILE, *(["-O0", "-g3", "-UNDEBUG"] if debug else ["-O3"])]
    link_args = ["-pthread", "-Wl,-z,relro,-z,now"]
    if sanitizers:
        instrument = [f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all"]
        compile_args += [*instrument, "-g", "-fno-omit-frame-pointer"]
        link_args += instrument
    compile_args += [] if debug or sanitizers else HARDENED
    if switched_on("FASTWS_NO_DEFLATE") or not has_zlib():
        compile_args.append("-DFWS_NO_DEFLATE=1")
    else:
        link_args.append("-lz")
    extensions = [
        Extension(
            f"fastws.{name}",
            sources=[f"fastws/{name}.pyx", *sources],
            depends=glob("fastws/native/*/*.h") + glob("fastws/*.pxd"),
            include_dirs=["fastws/native"],
            define_macros=TRACED if trace else [],
            extra_compile_args=compile_args,
            extra_link_args=link_args,
        )
        for name, sources in EXTENSIONS.items()
    ]
    directives = {"language_level": 3, "linetrace": trace}
    setup(ext_modules=cythonize(extensions, compiler_directives=directives, force=trace))


main()
