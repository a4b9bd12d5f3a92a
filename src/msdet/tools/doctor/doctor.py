"""Checks the environment: msdet doctor [--device Ascend].

Prints one line per check: `ok`, `warn` (not needed for training on CPU) or `FAIL`, the latter two with the command that
fixes it. The exit code is 1 if a check fails, else 0. With --device, the training step of a small network is also run
on that device and compared with the CPU.
"""

from __future__ import annotations

import argparse
import itertools
import platform
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import msdet
from msdet.ops.fonts import SCRIPTS, packages_for
from msdet.tools.doctor.ascend import ascend_checks, compare_with_cpu
from msdet.tools.doctor.machine import INSTALL, ROOT, Check, Machine

# The tested version.
MINDSPORE = "2.10"
# A 3x3 convolution of 64 channels on two 56x56 maps, in 10^9 multiply-additions.
_PROBE_GMAC = 2 * 64 * 64 * 9 * 56 * 56 / 1e9
# oneDNN's reference kernel reaches 0.1 to 0.2 GMAC/s, its fast kernels 20 and more on two cores.
_SLOWEST_GMAC_PER_SECOND = 2.0
_PROBE = """
import msdet, time, numpy, mindspore as ms
from mindspore import nn
print("version", ms.__version__, flush=True)
ms.set_context(mode=ms.PYNATIVE_MODE)
ms.set_device("CPU")
conv = nn.Conv2d(64, 64, 3)
x = ms.Tensor(numpy.ones((2, 64, 56, 56), numpy.float32))
conv(x).asnumpy()
best, start = float("inf"), time.perf_counter()
while time.perf_counter() - start < 1:
    before = time.perf_counter()
    conv(x).asnumpy()
    best = min(best, time.perf_counter() - before)
print("seconds", best, flush=True)
"""


def checks(machine: Machine) -> Iterator[Check]:
    """Runs all checks, in the order of the report."""
    yield _python(machine)
    yield _below(machine, "numpy", 2, "MindSpore 2.10 was built with NumPy 1")
    yield from _mindspore(machine)
    yield _below(machine, "cv2", 5, "OpenCV 5 needs NumPy 2", shown="OpenCV")
    for module in ("numba", "msgspec", "yaml", "pydantic", "tqdm"):
        yield _importable(machine, module, "FAIL", "")
    for module in ("pycocotools.mask", "hotcoco"):
        yield _importable(machine, module, "warn", "needed to score detections")
    yield _importable(machine, "matplotlib", "warn", "needed to draw the curves of a run")
    yield _importable(machine, "tensorboardX", "warn", "needed for TensorBoard events")
    yield _importable(machine, "jinja2", "warn", "needed for the HTML page of msdet check")
    for module in ("onnx", "onnxruntime"):
        yield _importable(machine, module, "warn", "needed to export to ONNX")
    yield _msrun(machine)
    yield from ascend_checks(machine)
    yield _gpu(machine)
    yield _fonts(machine)
    yield _resources(machine)


def _python(machine: Machine) -> Check:
    text = ".".join(map(str, machine.python))
    if (3, 11) <= machine.python[:2] <= (3, 12):
        return Check("Python", "ok", text)
    return Check("Python", "FAIL", f"{text}; this package needs 3.11 or 3.12", "python3.11 -m venv .venv")


def _below(machine: Machine, module: str, limit: int, why: str, shown: str = "") -> Check:
    name = shown or module
    try:
        version = machine.version(module)
    except Exception as error:  # noqa: BLE001 - a damaged package may raise anything when imported
        return Check(name, "FAIL", _reason(error), INSTALL)
    if int(version.split(".")[0]) >= limit:
        return Check(name, "FAIL", f"{version} is too new: {why}", INSTALL)
    return Check(name, "ok", version)


def _importable(machine: Machine, module: str, level: str, purpose: str) -> Check:
    name = module.split(".")[0]
    try:
        return Check(name, "ok", machine.version(module))
    except Exception as error:  # noqa: BLE001 - as above
        return Check(name, level, _reason(error) + (f" ({purpose})" if purpose else ""), INSTALL)


def _reason(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError):
        return "not installed"
    words = (str(error) or type(error).__name__).strip().splitlines()[0]
    return f"cannot be imported: {words[:200]}"


def _mindspore(machine: Machine) -> Iterator[Check]:
    """Checks MindSpore and its convolution in a subprocess: a wrong build may crash the process that loads it."""
    code, output = machine.run([sys.executable, "-c", _PROBE], 180)
    found = dict(line.split(" ", 1) for line in output.splitlines() if line.startswith(("version ", "seconds ")))
    version = found.get("version", "")
    last = output.strip().splitlines()[-1][:200] if output.strip() else f"exit code {code}"
    if not version:
        absent = "No module named 'mindspore'" in output
        yield Check("MindSpore", "FAIL", "not installed" if absent else f"cannot be imported: {last}", INSTALL)
        return
    if version.split(".")[:2] == MINDSPORE.split("."):
        yield Check("MindSpore", "ok", version)
    else:
        level = "warn" if version.startswith("2.") else "FAIL"
        yield Check("MindSpore", level, f"{version}; the tested version is {MINDSPORE}", INSTALL)
    if "seconds" not in found:
        yield Check("convolution", "FAIL", f"a 3x3 convolution does not run: {last}", INSTALL)
        return
    yield _kernel(machine, float(found["seconds"]))


def _kernel(machine: Machine, seconds: float) -> Check:
    rate = _PROBE_GMAC / seconds
    setting = machine.environ(msdet.ONEDNN_VARIABLE)
    text = f"{rate:.1f} GMAC/s ({seconds * 1e3:.0f} ms), {msdet.ONEDNN_VARIABLE}={setting or '(not set)'}"
    if rate >= _SLOWEST_GMAC_PER_SECOND:
        return Check("convolution", "ok", text)
    if setting and setting != "AVX2":
        return Check("convolution", "FAIL", f"oneDNN's reference kernel: {text}", f"unset {msdet.ONEDNN_VARIABLE}")
    if setting == "AVX2":
        return Check("convolution", "FAIL", f"very slow: {text}", "close other programs and try again")
    return Check("convolution", "FAIL", f"oneDNN's reference kernel: {text}", f"export {msdet.ONEDNN_VARIABLE}=AVX2")


def _msrun(machine: Machine) -> Check:
    found = machine.which("msrun") or machine.which(str(Path(sys.executable).parent / "msrun"))
    if found:
        return Check("msrun", "ok", found)
    return Check(
        "msrun",
        "warn",
        "not on PATH (needed for several processes)",
        f"export PATH={Path(sys.executable).parent}:$PATH",
    )


def _gpu(machine: Machine) -> Check:
    if not machine.which("nvidia-smi"):
        return Check("GPU", "ok", "none; not needed")
    code, output = machine.run(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], 20)
    names = ", ".join(sorted(set(output.strip().splitlines()))) if code == 0 else "nvidia-smi fails"
    text = f"{names}; the MindSpore 2.10 wheel supports CUDA 11.1 and 11.6 with cuDNN 8 only, GPU is no official target"
    return Check("GPU", "warn", text, "train with --device_target CPU, or install CUDA 11.6 and cuDNN 8")


def _fonts(machine: Machine) -> Check:
    """Checks which scripts class names can be drawn in."""
    missing = machine.missing_letters("".join(letter for letter, _ in SCRIPTS.values()))
    covered = ", ".join(name for name, (letter, _) in SCRIPTS.items() if letter not in missing)
    not_covered = [name for name, (letter, _) in SCRIPTS.items() if letter in missing]
    if not not_covered:
        return Check("fonts", "ok", covered)
    text = f"{covered}; none for {', '.join(not_covered)} (needed for class names in these scripts)"
    packages = " ".join(packages_for(missing))
    return Check("fonts", "warn", text, f"apt-get install {packages}, or pass a font file with --font")


def _resources(machine: Machine) -> Check:
    cores, memory, disk = machine.cores(), machine.memory_gb(), machine.disk_gb()
    text = f"{cores} core(s), {memory:.1f} GB of memory and {disk:.1f} GB of disk free ({platform.machine()})"
    if memory < 3:
        return Check("resources", "warn", text, "close other programs; the quickstart needs about 3 GB")
    if disk < 2:
        return Check("resources", "warn", text, f"free disk space under {ROOT}; checkpoints take up to 0.5 GB each")
    return Check("resources", "ok", text)


def main(argv: Sequence[str], machine: Machine | None = None) -> int:
    """Prints the report and returns the exit code."""
    parser = argparse.ArgumentParser(prog="msdet doctor", description="Checks the environment.")
    parser.add_argument("--quiet", action="store_true", help="print only warnings and failures")
    parser.add_argument(
        "--device",
        choices=("Ascend", "GPU"),
        help="also run a training step on this device and compare it with the CPU; do this first on a new device",
    )
    args = parser.parse_args(argv)
    quiet, machine = args.quiet, machine or Machine()
    failed = 0
    for check in itertools.chain(checks(machine), compare_with_cpu(machine, args.device) if args.device else ()):
        failed += check.level == "FAIL"
        if not quiet or check.level != "ok":
            sys.stdout.write(f"{check}\n")
            sys.stdout.flush()
    if failed:
        where = args.device or "CPU"
        sys.stdout.write(f"{failed} check(s) failed: training on {where} will not work until they are fixed\n")
    elif not quiet:
        sys.stdout.write(f"training on CPU{f' and {args.device}' if args.device else ''} will work\n")
    return 1 if failed else 0
