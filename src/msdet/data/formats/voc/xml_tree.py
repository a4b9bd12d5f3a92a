"""A minimal XML tree with line numbers for messages. Entities are rejected: they can exhaust memory or read files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.parsers import expat

# The declared encoding. UTF-16 files do not match; the parser detects them by their byte-order mark.
_DECLARED = re.compile(rb"""\s*<\?xml[^>]*?\sencoding\s*=\s*["']([A-Za-z0-9._-]{1,40})["']""")
# Programs on Chinese Windows write GBK but declare its subset GB2312.
_SUPERSETS = {"gb2312": "gb18030", "gbk": "gb18030"}


@dataclass(slots=True)
class Node:
    """An element: its tag, its line in the file (from 1), its text and its child elements."""

    tag: str
    line: int
    text: str = ""
    children: list[Node] = field(default_factory=list)

    def find(self, tag: str) -> Node | None:
        """The first child with a tag."""
        return next((child for child in self.children if child.tag == tag), None)

    def find_all(self, tag: str) -> Iterator[Node]:
        """The children with a tag."""
        return (child for child in self.children if child.tag == tag)

    def value(self, tag: str) -> str:
        """The stripped text of the first child with a tag; empty if there is none."""
        child = self.find(tag)
        return "" if child is None else child.text.strip()


def parse_xml(data: bytes) -> Node:
    """The root element of an XML file.

    Raises:
        ValueError: the file is not XML (with line and column), or defines an entity.
    """
    top = Node("", 0)
    stack = [top]
    data, encoding = _in_utf8(data)
    parser = expat.ParserCreate(encoding)

    def start(tag: str, _: dict[str, str]) -> None:
        node = Node(tag, parser.CurrentLineNumber)
        stack[-1].children.append(node)
        stack.append(node)

    def end(_: str) -> None:
        stack.pop()

    def text(part: str) -> None:
        stack[-1].text += part

    def refuse(*_: object) -> None:
        raise ValueError(f"it defines an entity at line {parser.CurrentLineNumber}, which is not allowed")

    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler, parser.EntityDeclHandler = text, refuse
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        what = expat.ErrorString(error.code)
        hint = "" if _is_utf8(data) else "; it is not UTF-8 either: save it as UTF-8"
        raise ValueError(f"it is not XML: {what} at line {error.lineno} column {error.offset + 1}{hint}") from error
    except (LookupError, UnicodeDecodeError) as error:
        raise ValueError(f"it is not XML: {error}") from error
    return top.children[0]


def _in_utf8(data: bytes) -> tuple[bytes, str | None]:
    """The file re-encoded for the parser, and the encoding; None if the parser detects it itself."""
    declared = _DECLARED.match(data.removeprefix(b"\xef\xbb\xbf"))
    name = declared[1].decode().lower() if declared else ""
    if name in ("", "utf-8", "utf8", "us-ascii", "utf-16"):
        return data, None
    try:
        text = data.decode(_SUPERSETS.get(name, name))
    except LookupError:
        raise ValueError(f"its encoding {name!r} is unknown: save it as UTF-8") from None
    except UnicodeError:
        raise ValueError(f"it is not in its declared encoding {name}: save it as UTF-8") from None
    return text.encode("utf-8", "surrogatepass"), "utf-8"


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        # The parser detects UTF-16 itself.
        return data.startswith((b"\xff\xfe", b"\xfe\xff"))
    return True
