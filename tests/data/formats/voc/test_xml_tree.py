"""XML files: their tree, line numbers and encodings, and what is rejected."""

import pytest

from msdet.data.formats.voc.xml_tree import parse_xml

ANNOTATION = b"<annotation>\n <object>\n  <name> cat </name>\n </object>\n <object/>\n</annotation>"


def test_tree_and_lines():
    root = parse_xml(ANNOTATION)
    assert (root.tag, root.line, [child.line for child in root.find_all("object")]) == ("annotation", 1, [2, 5])
    assert root.find("object").value("name") == "cat"
    assert root.value("name") == "" and root.find("size") is None


@pytest.mark.parametrize(
    ("declared", "encoding"),
    [("", "utf-8"), ("utf-8", "utf-8-sig"), ("GB2312", "gb18030"), ("gbk", "gb18030"), ("latin-1", "latin-1"),
     ("utf-16", "utf-16")],
)  # fmt: skip
def test_encodings(declared, encoding):
    text = "né" if encoding == "latin-1" else "猫"
    head = f'<?xml version="1.0" encoding="{declared}"?>' if declared else ""
    assert parse_xml(f"{head}<name>{text}</name>".encode(encoding)).text == text


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "it is not XML: no element found at line 1 column 1$"),
        (ANNOTATION[:30], "it is not XML: .* at line 3 column"),
        (b"<a>\n</b>", "it is not XML: mismatched tag at line 2 column 3"),
        (b"<a>\xff</a>", "not XML: .* it is not UTF-8 either"),
        (b'<?xml version="1.0" encoding="klingon"?><a/>', "its encoding 'klingon' is unknown"),
        (b'<?xml version="1.0" encoding="gbk"?><a>\xff\xff</a>', "not in its declared encoding gbk"),
        (b'<!DOCTYPE a [\n<!ENTITY b "c">]><a>&b;</a>', "defines an entity at line 2"),
        (b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>', "defines an entity at line 1"),
    ],
)
def test_what_is_rejected(data, message):
    with pytest.raises(ValueError, match=message):
        parse_xml(data)
