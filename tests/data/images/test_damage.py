"""Detection of damaged image files."""

import io

import pytest
from PIL import Image

from msdet.data.images.decode import decode_image
from msdet.data.validation.image_scan import scan_images
from msdet.errors import UserError
from tests.data.images.samples import scene


def jpeg(**options):
    stream = io.BytesIO()
    Image.fromarray(scene()).save(stream, "JPEG", quality=85, **options)
    return stream.getvalue()


def with_replaced_part(data, start, end, fill=b"\0"):
    first, last = int(len(data) * start), int(len(data) * end)
    return data[:first] + (fill * (last - first))[: last - first] + data[last:]


@pytest.mark.parametrize("hole", [(0.3, 0.6), (0.4, 0.42), (0.5, 0.9), (0.9, 0.95), (0.15, 0.98)])
def test_jpeg_with_zeroed_data_is_rejected(tmp_path, hole):
    (tmp_path / "a.jpg").write_bytes(with_replaced_part(jpeg(), *hole))
    with pytest.raises(UserError, match=r"a\.jpg is damaged: a part of its data is lost"):
        decode_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("options", [{}, {"optimize": True}, {"progressive": True}, {"subsampling": 0}])
def test_intact_jpegs_are_accepted(tmp_path, options):
    flat = io.BytesIO()
    Image.new("RGB", (400, 300)).save(flat, "JPEG", **options)
    for name, data in {"a.jpg": jpeg(**options), "flat.jpg": flat.getvalue(), "b.jpg": jpeg() + bytes(500)}.items():
        (tmp_path / name).write_bytes(data)
    for facts in scan_images(tmp_path, ["a.jpg", "flat.jpg", "b.jpg"]):
        assert not facts.error
        assert not facts.notes


def test_the_check_reports_jpegs_of_which_libjpeg_warns(tmp_path, capfd):
    names = [f"{number}.jpg" for number in range(6)]
    for name in names:
        (tmp_path / name).write_bytes(jpeg())
    progressive = jpeg(progressive=True)
    (tmp_path / "1.jpg").write_bytes(with_replaced_part(progressive, 0.9, 0.95))
    (tmp_path / "3.jpg").write_bytes(with_replaced_part(jpeg(), 0.4, 0.6, b"\x5a\xc3\x17"))
    whole = jpeg()
    (tmp_path / "4.jpg").write_bytes(whole[:-2] + bytes(200) + whole[-2:])
    facts = dict(zip(names, scan_images(tmp_path, names), strict=True))
    assert "1.jpg is damaged: libjpeg reports" in facts["1.jpg"].error
    assert facts["3.jpg"].error or facts["3.jpg"].notes
    assert not facts["4.jpg"].error
    assert "4.jpg is damaged: libjpeg reports 'Corrupt JPEG data: " in facts["4.jpg"].notes[0].text
    assert not any(facts[name].error or facts[name].notes for name in ("0.jpg", "2.jpg", "5.jpg"))
    assert "Corrupt JPEG" not in capfd.readouterr().err
