"""Warnings of libjpeg on stderr."""

import os

from msdet.data.images.decoder_messages import captured_warnings


def test_warnings_are_collected_and_other_text_is_passed_on(tmp_path, capfd):
    with captured_warnings() as warnings:
        os.write(2, b"something else\nCorrupt JPEG data: bad Huffman code\n")
    assert warnings == ["Corrupt JPEG data: bad Huffman code"]
    assert capfd.readouterr().err == "something else\n"
