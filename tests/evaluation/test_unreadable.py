"""Images that cannot be read are not scored, neither during an evaluation nor from its result file."""

import pytest

import eval as evaluation
from msdet.errors import UserError
from msdet.evaluation.coco.truth import ground_truth
from msdet.evaluation.detection_table import read_detections
from msdet.evaluation.unreadable import without_unreadable
from tests.data.conftest import write_image
from tests.evaluation.evaluators import FLAGS, evaluator, opened, scored
from tests.in_process import run

pytestmark = pytest.mark.usefixtures("at_root")


@pytest.mark.parametrize("kind", ["damaged", "empty", "removed"])
def test_an_unreadable_image_is_not_scored(folder, tmp_path, caplog, kind):
    """Neither its objects nor detections on it count, also when the result file is scored again."""
    dataset, _ = opened(folder)
    path = folder.image_dir / "2.jpg"
    with evaluator(folder, "--on_bad_image=skip") as perfect:
        path.unlink() if kind == "removed" else path.write_bytes(b"" if kind == "empty" else b"no image")
        result = scored(perfect, tmp_path / "out" / "found.json")
    assert (result.ap, result.images, result.detections) == (pytest.approx(1), 2, 2)
    assert "skipped 1 images" in caplog.text
    kept = without_unreadable(dataset, read_detections(tmp_path / "out" / "found.json").unreadable_ids)
    assert [sample.image_id for sample in kept.samples] == [1, "three"]
    assert ground_truth(kept).other_images == {2}
    # Once all images are readable again, the next evaluation counts all of them.
    write_image(path, 80, 60)
    with evaluator(folder, "--on_bad_image=skip") as perfect:
        assert scored(perfect, tmp_path / "out" / "found.json").images == 3


def test_a_result_file_is_scored_without_its_unreadable_images(folder, tmp_path, capsys):
    (folder.image_dir / "2.jpg").write_bytes(b"no image")
    with evaluator(folder, "--on_bad_image=skip") as perfect:
        perfect.collect(tmp_path / "found.json")
    flags = (f"--data_dir={folder.root}", f"--detections={tmp_path}/found.json", f"--log_path={tmp_path}/out")
    assert run(evaluation.main, *FLAGS, *flags, "--on_bad_image=skip", "--draw_images=3") == 0
    text = capsys.readouterr().out
    assert float(text.partition("mAP: ")[2].split()[0]) == pytest.approx(1)
    assert sorted(path.name for path in tmp_path.glob("out/*/pictures/*")) == ["1.jpg", "three.jpg"]


def test_no_readable_image_is_an_error(folder, tmp_path):
    for path in folder.image_dir.iterdir():
        path.write_bytes(b"no image")
    with (
        evaluator(folder, "--on_bad_image=skip") as perfect,
        pytest.raises(UserError, match="none of the 3 images of .*val.json could be read"),
    ):
        scored(perfect, tmp_path / "found.json")


def test_unreadable_ids_are_read_with_the_result_file(tmp_path):
    path = tmp_path / "found.json"
    path.write_text("[]")
    assert list(read_detections(path).unreadable_ids) == []
    (tmp_path / "found.left_out.json").write_text('[5, "a"]')
    assert list(read_detections(path).unreadable_ids) == [5, "a"]
    (tmp_path / "found.left_out.json").write_text("{}")
    with pytest.raises(UserError, match="left_out.json is not a list of image ids"):
        read_detections(path)
