"""Builds the stub libraries for the installed MindSpore.

python -m tests.ascend.stubs.build FOLDER [CHIP [RECORD]]

Also prints the environment, for `eval` in a shell, in which MindSpore loads them as CANN.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

SOURCES = Path(__file__).parent
# The libraries of the plug-in that MindSpore loads.
ROOTS = ("libmindspore_ascend.so.2", "libmindspore_ge_backend.so", "libhccl_plugin.so")
# Names of functions of CANN, in C and in its C++ namespace.
FUNCTION = r"(?:acl|aclop|aclnn|aclrt|aclmdl|acltdt|aclprof|Hccl|Hcom|hal|rt)[A-Z]\w*|_ZNK?2ge\w+"
# Names of optional functions that speed up operators; their endings are unique, so no linker merged them.
CACHE = r"(?:Un)?Init\w+ThreadLocal|PTAGetExecCache|SetPTAHashKey|CanUsePTACache|ReleaseHugeMem"
PLATFORM = ("Linux", "x86_64")


class BuildError(Exception):
    """The stub libraries cannot be built on this machine."""


@dataclass(frozen=True)
class Needs:
    """Functions and libraries of CANN that the plug-in needs.

    Attributes:
        functions: linked, or looked up by name at run time.
        libraries: linked, or opened at run time; paths in the library folder of CANN.
    """

    functions: frozenset[str]
    libraries: frozenset[str]


@dataclass(frozen=True)
class Stubs:
    """The built stub libraries.

    Attributes:
        folder: replaces the folder of CANN.
    """

    folder: Path

    def environment(self, chip: str, record: Path | None = None) -> dict[str, str]:
        """Environment variables to set before Python starts.

        Args:
            chip: name of the chip, e.g. Ascend910B2.
            record: file to append the record to.
        """
        latest = self.folder / "latest"
        variables = {
            "ASCEND_HOME_PATH": str(latest),
            "ASCEND_OPP_PATH": str(latest / "opp"),
            "ASCEND_STUB_CHIP": chip,
            **({"ASCEND_STUB_RECORD": str(record)} if record else {}),
        }
        for name, first in (("LD_LIBRARY_PATH", latest / "lib64"), ("PYTHONPATH", latest / "python")):
            variables[name] = os.pathsep.join(filter(None, (str(first), os.environ.get(name))))
        return variables


def unsupported_reason() -> str:
    """Why the libraries cannot be built on this machine; empty if they can."""
    if (platform.system(), platform.machine()) != PLATFORM:
        machine = f"{platform.system()} {platform.machine()}"
        return f"stubs of CANN are only available for {' '.join(PLATFORM)}: this is {machine}"
    missing = [tool for tool in ("g++", "nm", "readelf", "strings") if shutil.which(tool) is None]
    return f"stubs of CANN need {', '.join(missing)}: install g++ and binutils" if missing else ""


def build_once(folder: Path) -> Stubs:
    """`build` for several processes: the first one builds the folder, the others wait for it."""
    folder.mkdir(parents=True, exist_ok=True)
    stamp = folder / "complete"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists():
            build(folder)
            stamp.touch()
    return Stubs(folder)


def build(folder: Path) -> Stubs:
    """Builds the libraries, which takes seconds.

    Raises:
        BuildError: MindSpore or its Ascend plug-in is missing, or a tool fails.
    """
    needs = find_needs(find_wheel())
    # MindSpore looks for a folder named latest in the path of its libraries.
    libraries = folder / "latest" / "lib64"
    (libraries / "driver").mkdir(parents=True, exist_ok=True)
    (folder / "latest" / "opp").mkdir(exist_ok=True)
    generated = folder / "generated.cc"
    generated.write_text(generate(needs.functions))
    everything = libraries / "libcann_stubs.so"
    flags = ("-std=c++17", "-O0", "-fPIC", "-shared", "-D_GLIBCXX_USE_CXX11_ABI=0", f"-I{SOURCES}")
    _run(
        "g++",
        *flags,
        *sorted(SOURCES.glob("*.cc")),
        generated,
        "-o",
        everything,
        f"-Wl,-soname,{everything.name}",
        "-lrt",
    )
    # One library under all names: whichever is opened, it has every function.
    for name in needs.libraries:
        link = libraries / name
        link.unlink(missing_ok=True)
        link.symlink_to(os.path.relpath(everything, link.parent))
    _write_python_package(folder / "latest" / "python")
    return Stubs(folder)


def find_wheel() -> Path:
    """The library folder of the installed MindSpore, found without importing it, which would load the plug-in."""
    spec = importlib.util.find_spec("mindspore")
    if spec is None or not spec.submodule_search_locations:
        raise BuildError(f"{sys.executable} has no mindspore")
    return Path(spec.submodule_search_locations[0]) / "lib"


def find_needs(wheel: Path) -> Needs:
    """Functions and libraries of CANN needed by the plug-in in a library folder."""
    plugin, missing = _plugin(wheel)
    symbols = _run("nm", "-D", *plugin)
    undefined = set(re.findall(rf"^ +U ({FUNCTION})", symbols, re.MULTILINE))
    defined = set(re.findall(rf"^\w+ [A-Za-z] ({FUNCTION})", symbols, re.MULTILINE))
    texts = _run("strings", "-a", *plugin)
    looked_up = set(re.findall(rf"^({FUNCTION}|{CACHE})$", texts, re.MULTILINE))
    # If one name is the end of another, the linker stores only the longer one.
    looked_up |= {name.removeprefix("Un") for name in looked_up}
    opened = set(re.findall(r"^/?lib64/((?:driver/)?lib\w+\.so)$", texts, re.MULTILINE))
    return Needs(frozenset((undefined - defined) | looked_up), frozenset(missing | opened))


def _plugin(wheel: Path) -> tuple[list[Path], set[str]]:
    """The libraries of the plug-in, and the names of linked libraries that do not exist."""
    own = {file.name: file for file in wheel.rglob("*.so*")}
    waiting = [own.get(name) for name in ROOTS]
    if None in waiting:
        raise BuildError(f"{wheel} has no Ascend plug-in: {', '.join(name for name in ROOTS if name not in own)}")
    found: list[Path] = []
    foreign: set[str] = set()
    while waiting:
        library = waiting.pop()
        if library in found:
            continue
        found.append(library)
        for name in re.findall(r"\(NEEDED\).*\[(.+)\]", _run("readelf", "-d", library)):
            # Libraries shared by all devices are outside of the plug-in folder and do not use CANN.
            if name not in own:
                foreign.add(name)
            elif "plugin" in own[name].parts:
                waiting.append(own[name])
    # The compiler prints a path if the system has the library, else the name.
    return found, {name for name in foreign if _run("g++", f"-print-file-name={name}").strip() == name}


def generate(functions: Iterable[str]) -> str:
    """C++ code of functions: operators as in `operators.h`, others return success. Those in .cc files have priority."""
    # MindSpore composes the name of the other function of an operator at run time.
    operators = {name.removesuffix("GetWorkspaceSize") for name in functions if name.startswith("aclnn")}
    others = sorted(name for name in functions if not name.startswith("aclnn"))
    lines = ['#include "operators.h"', *(f"ACLNN_OPERATOR({name})" for name in sorted(operators))]
    for number, name in enumerate(others):
        lines.append(f'extern "C" __attribute__((weak)) long success_{number}() __asm__("{name}");')
        lines.append(f"long success_{number}() {{ return 0; }}")
    return "\n".join(lines) + "\n"


def _write_python_package(folder: Path) -> None:
    """Writes the package of CANN whose version a distributed run checks.

    There must be no package te, the operator compiler: MindSpore would import contents that only the real one has.
    """
    package = folder / "hccl"
    package.mkdir(parents=True, exist_ok=True)
    (package / "__init__.py").touch()
    (package / "sys_version.py").write_text('__sys_version__ = "8.5.0"\n')


def _run(*command: str | Path) -> str:
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, errors="replace")
    if done.returncode:
        raise BuildError(f"{shlex.join(words)}\n{done.stderr}")
    return done.stdout


def main(argv: Sequence[str]) -> int:
    folder, chip, record = [*argv, "Ascend910B2", ""][:3] if len(argv) == 1 else [*argv, ""][:3]
    stubs = build(Path(folder).resolve())
    for name, value in stubs.environment(chip, Path(record).resolve() if record else None).items():
        sys.stdout.write(f"export {name}={shlex.quote(value)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
