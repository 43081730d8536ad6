"""What the checks of the documents share: pages, their code blocks, headings and links."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BOOK = ROOT / "docs"
# Pages outside the book whose links and commands count, too.
OTHERS = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "benches/README.md", "fuzz/README.md")


@dataclass(frozen=True)
class Block:
    """A fenced block of code."""

    page: Path
    line: int
    language: str
    attributes: dict[str, str]
    text: str

    @property
    def where(self) -> str:
        """Page and line, as an editor takes them."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


@dataclass(frozen=True)
class Link:
    """A link or an image."""

    page: Path
    line: int
    target: str

    @property
    def where(self) -> str:
        """Page and line, as an editor takes them."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def pages() -> list[Path]:
    """The book's pages, then the others."""
    return [*sorted(BOOK.glob("*.md")), *(ROOT / name for name in OTHERS if (ROOT / name).exists())]


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page. Its info string is the language and attributes: `sh run exit=78`."""
    found, opened, lines = [], None, page.read_text().splitlines()
    for number, line in enumerate(lines, 1):
        fence = re.match(r"( *)(`{3,})(.*)$", line)
        if opened is None and fence:
            language, *words = fence[3].split() or [""]
            attributes = dict(word.partition("=")[::2] for word in words)
            opened = (number, fence[2], language, attributes, len(fence[1]))
        elif opened and fence and fence[2] == opened[1] and not fence[3].strip():
            start, _, language, attributes, indent = opened
            text = "".join(f"{each[indent:]}\n" for each in lines[start : number - 1])
            found.append(Block(page, start, language, attributes, text))
            opened = None
    if opened:
        raise ValueError(f"{page}:{opened[0]}: a block of code does not end")
    return found


def prose(page: Path) -> list[tuple[int, str]]:
    """The numbered lines outside of fenced blocks."""
    inside, kept = False, []
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if re.match(r" *```", line):
            inside = not inside
        elif not inside:
            kept.append((number, line))
    return kept


def anchors(page: Path) -> set[str]:
    """What `#...` may name: the headings, as GitHub and mdBook write them."""
    seen: dict[str, int] = {}
    for _, line in prose(page):
        if heading := re.match(r"#{1,6} +(.*?)\s*$", line):
            text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading[1])
            slug = re.sub(r"[^\w\- ]", "", text.lower().replace("`", "")).replace(" ", "-")
            count = seen.get(slug, 0)
            seen[slug] = count + 1
            if count:
                seen[f"{slug}-{count}"] = 1
    return set(seen)


def links(page: Path) -> list[Link]:
    """The links of a page, but for those in code."""
    found = []
    for number, line in prose(page):
        line = re.sub(r"`[^`]*`", "``", line)
        found += [Link(page, number, target) for target in re.findall(r"\]\(<?([^)\s>]+)>?[^)]*\)", line)]
        found += [Link(page, number, target) for target in re.findall(r'(?:src|href|srcset)="([^"]+)"', line)]
    return found
