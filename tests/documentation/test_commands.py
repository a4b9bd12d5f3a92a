"""Every command block and Python block of the documentation, run as it stands with small data and narrow networks."""

import pytest

from tests.documentation.pages import PAGES, blocks_of, name_of
from tests.documentation.sandbox import Sandbox

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A sandbox with all files that the pages name."""
    sandbox = Sandbox(tmp_path_factory.mktemp("documentation") / "template")
    sandbox.add_weights()
    made = sandbox.run(
        "bash",
        "python export.py --config configs/yolov3.yaml --ckpt_file yolov3.ckpt --file_format ONNX --emulate_float16 0\n"
        "python export.py --config configs/yolov3.yaml --ckpt_file yolov3.ckpt --emulate_float16 0\n"
        "python train.py --config configs/yolov3_quant.yaml --data_dir /data/coco2014 --pretrained yolov3.ckpt"
        " --run_name quant --calibration_batches 1\n"
        "cp outputs/quant/ckpt_0/yolov3-1_6.ckpt yolov3_quant.ckpt\n"
        "cp outputs/quant/ckpt_0/yolov3-1_6.json yolov3_quant.json\n"
        "rm -r outputs",
    )
    assert made.returncode == 0, made.stdout[-3000:] + made.stderr[-3000:]
    return sandbox


def is_run(block):
    return block.language in ("bash", "python") and not block.skipped


def pages():
    for page in PAGES:
        # The commands of the Chinese page are those of the English one: test_pages.py compares them.
        is_english = not page.name.endswith((".zh.md", "_CN.md"))
        if is_english and any(is_run(block) for block in blocks_of(page)):
            yield page


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_the_blocks_of_a_page_run(template, tmp_path, page):
    sandbox = template.copy(tmp_path / "page")
    failed = []
    for block in filter(is_run, blocks_of(page)):
        done = sandbox.run(block.language, block.code)
        if done.returncode:
            output = f"{done.stdout[-800:]}{done.stderr[-1500:]}"
            failed.append(f"line {block.line}, exit code {done.returncode}:\n{block.code}\n{output}")
    assert not failed, "\n\n".join(failed)
