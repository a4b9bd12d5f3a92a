"""What can be checked in the pages without running them: commands, links, and that both languages say the same."""

import importlib
import re
import unicodedata

import pytest

from msdet.cli import COMMANDS
from msdet.config.command_line import parse_command_line
from tests.documentation.pages import PAGES, ROOT, blocks_of, name_of

pytestmark = pytest.mark.usefixtures("at_root")
# Complete in Chinese; other pages may be English only.
TRANSLATED = ("getting_started", "guides", "models", "index.md", "migration.md")
LANGUAGES = ("bash", "python", "yaml", "text", "json", "csv", "mermaid", "html", "toml", "bibtex")
_TITLE = re.compile(r"^(#+) ", re.MULTILINE)
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def configured_commands():
    """(page, line, command, arguments) of every command that takes a configuration."""
    for page in PAGES:
        for block in blocks_of(page):
            if block.language != "bash" or block.skipped:
                continue
            for words in block.commands():
                if words[0] == "python" and words[1:2] and words[1].removesuffix(".py") in COMMANDS:
                    command, arguments = words[1].removesuffix(".py"), words[2:]
                elif words[0] == "msdet" and words[1:2]:
                    command, arguments = words[1], words[2:]
                else:
                    continue
                yield pytest.param(command, arguments, id=f"{name_of(page)}:{block.line}:{' '.join(words[:2])}")


@pytest.mark.parametrize(("command", "arguments"), list(configured_commands()))
def test_every_flag_exists(command, arguments):
    assert command in COMMANDS or command == "--help"
    if command == "--help" or not COMMANDS[command].is_configured or {"--help", "--print_config"} & set(arguments):
        return
    # The configuration that a run saves is not there before the run.
    saved = ("outputs/small/config.yaml", "configs/yolov3_shapes.yaml")
    parse_command_line([argument.replace(*saved) for argument in arguments], command)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_blocks_name_their_language(page):
    for block in blocks_of(page):
        assert block.language in LANGUAGES, block.line


def anchors_of(page):
    """The anchors that GitHub gives the titles of a page."""
    found = set()
    text = re.sub(r"^ *```.*?^ *```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for title in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        title = re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", title).replace("`", "").lower()
        kept = (c for c in title if c in " -_" or unicodedata.category(c)[0] in "LN")
        found.add("".join(kept).replace(" ", "-"))
    return found


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "README_CN.md", ROOT / "CONTRIBUTING.md"], ids=name_of)
def test_links_of_the_readmes_lead_somewhere(page):
    """Those of the site are checked by its build."""
    for link in _LINK.findall(page.read_text(encoding="utf-8")):
        if link.startswith(("https://", "http://", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path) if path else page
        assert target.exists(), link
        if anchor and target.suffix == ".md":
            assert anchor in anchors_of(target), link


def translations():
    for page in (ROOT / "docs").rglob("*.md"):
        if not page.name.endswith(".zh.md"):
            yield page, page.with_suffix(".zh.md")
    yield ROOT / "README.md", ROOT / "README_CN.md"


def shape(page):
    """Levels of the titles, code without comments, and size of each table, in order."""
    text = page.read_text(encoding="utf-8")
    code = [re.sub(r"#.*", "", block.code).split() for block in blocks_of(page) if block.language == "bash"]
    plain = re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)
    rows = [line.count("|") if line.startswith("|") else 0 for line in plain.splitlines()]
    tables = "".join("x" if row else " " for row in rows).split()
    return [len(title) for title in _TITLE.findall(plain)], code, [len(table) for table in tables]


@pytest.mark.parametrize(("page", "chinese"), [pytest.param(*pair, id=name_of(pair[0])) for pair in translations()])
def test_both_languages_have_the_same_sections_commands_and_tables(page, chinese):
    if not chinese.exists():
        relative = name_of(page).removeprefix("docs/")
        assert relative.split("/")[0] not in TRANSLATED, f"{name_of(chinese)} is missing"
        return
    titles, commands, tables = shape(page)
    assert shape(chinese) == (titles, commands, tables)


@pytest.mark.parametrize("page", [page for page in PAGES if ROOT / "docs" in page.parents], ids=name_of)
def test_every_page_is_in_the_navigation(page):
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").split("\nnav:")[1]
    assert page.relative_to(ROOT / "docs").as_posix().replace(".zh.md", ".md") in nav


def test_modules_named_in_the_interface_page_exist():
    for target in re.findall(r"^::: ([\w.]+)", (ROOT / "docs/reference/api.md").read_text(), re.MULTILINE):
        module, _, name = target.rpartition(".")
        assert hasattr(importlib.import_module(module), name), target
