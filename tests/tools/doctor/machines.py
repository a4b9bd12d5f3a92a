"""Fake machines for the tests of the doctor."""

from __future__ import annotations

import dataclasses

from msdet.tools.doctor.doctor import checks
from msdet.tools.doctor.machine import Check, Machine

VERSIONS = {
    "numpy": "1.26.4",
    "cv2": "4.11.0",
    "numba": "0.68.1",
    "msgspec": "0.22.0",
    "yaml": "6.0.3",
    "pydantic": "2.14.3",
    "tqdm": "4.70.1",
    "pycocotools.mask": "2.0.11",
    "hotcoco": "1.3.0",
    "matplotlib": "3.11.2",
    "tensorboardX": "2.6.5",
    "jinja2": "3.1.6",
    "onnx": "1.23.2",
    "onnxruntime": "1.31.1",
}


FAST = "version 2.10.0\nseconds 0.012\n"


def versions(**changed):
    table = {**VERSIONS, **changed}

    def version(module):
        if isinstance(table[module], Exception):
            raise table[module]
        return table[module]

    return version


def answers(probe=(0, FAST), nvidia=(0, "Some Card\n")):
    return lambda command, _timeout: nvidia if command[0] == "nvidia-smi" else probe


HEALTHY = Machine(
    missing_letters=lambda text: [],  # fonts for every script
    python=(3, 11, 7),
    version=versions(),
    run=answers(),
    which=lambda name: "/usr/bin/msrun" if name == "msrun" else None,
    davinci=list,
    environ={}.get,
    cores=lambda: 2,
    memory_gb=lambda: 16.0,
    disk_gb=lambda: 50.0,
)


def found(name: str, **changed) -> Check:
    [check] = [check for check in checks(dataclasses.replace(HEALTHY, **changed)) if check.name == name]
    return check
