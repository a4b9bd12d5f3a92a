"""Reading darknet .weights files."""

import struct

import numpy as np
import pytest

from msdet.errors import UserError
from msdet.importers.darknet_file import read_darknet

VALUES = np.arange(5, dtype="<f4")


@pytest.mark.parametrize(
    ("header", "version", "seen"),
    [
        (struct.pack("<iiii", 0, 1, 0, 77), (0, 1, 0), 77),
        (struct.pack("<iiiq", 0, 2, 5, 2**40), (0, 2, 5), 2**40),
        (struct.pack("<iiiq", 1, 0, 0, 3), (1, 0, 0), 3),
    ],
)
def test_the_number_of_images_takes_8_bytes_from_version_0_2_on(tmp_path, header, version, seen):
    path = tmp_path / "a.weights"
    path.write_bytes(header + VALUES.tobytes())
    file = read_darknet(path)
    assert (file.path, file.version, file.seen) == (path, version, seen)
    np.testing.assert_array_equal(file.values, VALUES)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "0 bytes, less than a header"),
        (b"x" * 15, "15 bytes, less than a header"),
        (struct.pack("<iiii", 0, 2, 5, 0), "truncated: 16 bytes"),
        (struct.pack("<iiiq", 0, 2, 5, 0) + b"123", "truncated: 23 bytes"),
        (struct.pack("<iiiq", 0, -1, 5, 0), "version 0.-1.5"),
        (struct.pack("<iiiq", 70000, 2, 5, 0), "version 70000.2.5"),
    ],
)
def test_invalid_files(tmp_path, content, message):
    (tmp_path / "a.weights").write_bytes(content)
    with pytest.raises(UserError, match=rf"a\.weights .*{message}"):
        read_darknet(tmp_path / "a.weights")


def test_a_missing_file(tmp_path):
    with pytest.raises(UserError, match="none.weights cannot be read: No such file"):
        read_darknet(tmp_path / "none.weights")
