"""The atc command line that converts an exported file to an .om for Ascend 310. It needs CANN; it was not run here."""

from __future__ import annotations

import shlex
from pathlib import Path

from msdet.export.spec import ExportSpec

# Precision mode of MindSpore Lite -> of atc ("Ascend Conversion Tool Description" of Lite).
PRECISION_MODES = {
    "preferred_fp32": "allow_fp32_to_fp16",
    "enforce_fp16": "force_fp16",
    "enforce_fp32": "force_fp32",
    "enforce_origin": "must_keep_origin_dtype",
    "preferred_optimal": "allow_mix_precision",
}


def atc_command(path: Path, spec: ExportSpec, precision_mode: str, soc_version: str = "Ascend310") -> str:
    """The command line, preceded by a comment with its prerequisites.

    atc reads ONNX and AIR; for a MINDIR file the command names the ONNX file that export.py writes next to it.

    Args:
        path: .mindir, .onnx or .air.
        spec: what the file contains.
        precision_mode: a key of `PRECISION_MODES`.
        soc_version: chip as shown by `npu-smi info`: Ascend310, Ascend310P3, ...
    """
    model = path if path.suffix in (".onnx", ".air") else path.with_suffix(".onnx")
    # .om files have a fixed batch size.
    batch = spec.batch_size or 1
    shapes = ";".join(
        f"{name}:{','.join(str(batch if side is None else side) for side in shape)}"
        for name, shape, _ in spec.input_specs()
    )
    arguments = [
        "atc",
        f"--framework={1 if model.suffix == '.air' else 5}",
        f"--model={model}",
        f"--output={model.with_suffix('')}",
        f"--input_shape={shapes}",
        "--input_format=ND",
        "--output_type=FP32",
        f"--precision_mode={PRECISION_MODES[precision_mode]}",
        f"--soc_version={soc_version}",
    ]
    note = "# On a machine with CANN (source set_env.sh first). soc_version: see npu-smi info."
    if model != path:
        note += f"\n# atc cannot read MINDIR: write {model.name} with export.py --file_format ONNX first."
    return f"{note}\n{shlex.join(arguments)}"
