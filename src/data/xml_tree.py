"""XML as a tree that knows its lines, so that a message can name one; and none of what XML can do harm with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.parsers import expat


@dataclass(slots=True)
class Node:
    """An element: its tag, its line in the file (from 1), its text, and what stands in it."""

    tag: str
    line: int
    text: str = ""
    children: list[Node] = field(default_factory=list)

    def find(self, tag: str) -> Node | None:
        """The first child of a tag."""
        return next((child for child in self.children if child.tag == tag), None)

    def find_all(self, tag: str) -> Iterator[Node]:
        """The children of a tag."""
        return (child for child in self.children if child.tag == tag)

    def value(self, tag: str) -> str:
        """The text of the first child of a tag without surrounding space; empty if there is none."""
        child = self.find(tag)
        return "" if child is None else child.text.strip()


def parse_xml(data: bytes) -> Node:
    """The root of a file.

    Raises:
        ValueError: the file is no XML (with line and column), or defines entities, which can grow without bound.
    """
    top = Node("", 0)
    stack = [top]
    parser = expat.ParserCreate()

    def start(tag: str, _: dict[str, str]) -> None:
        node = Node(tag, parser.CurrentLineNumber)
        stack[-1].children.append(node)
        stack.append(node)

    def end(_: str) -> None:
        stack.pop()

    def text(part: str) -> None:
        stack[-1].text += part

    def refuse(*_: object) -> None:
        raise ValueError(f"it defines an entity at line {parser.CurrentLineNumber}, which annotations do not need")

    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler, parser.EntityDeclHandler = text, refuse
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        what = expat.ErrorString(error.code)
        raise ValueError(f"it is no XML: {what} at line {error.lineno} column {error.offset + 1}") from error
    except (LookupError, UnicodeDecodeError) as error:
        raise ValueError(f"it is no XML: {error}") from error
    return top.children[0]
