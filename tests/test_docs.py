"""What the documents say of the code is still so."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
QUOTE = re.compile(r"`(adapruner_det/[\w/]+\.py)` \| `([^`]+)` \|")


def quotes():
    return QUOTE.findall((ROOT / "docs" / "method.md").read_text())


@pytest.mark.parametrize("path, line", quotes())
def test_quoted_line_stands_where_the_page_says(path, line):
    assert line in (ROOT / path).read_text()


def test_every_equation_is_quoted():
    assert len(quotes()) >= 12


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "docs/method.md",
        "docs/results.md",
        "docs/reproduce.md",
        "docs/performance.md",
        "docs/methods.md",
        "datasets/README.md",
    ],
)
def test_paths_named_in_pages_exist(page):
    named = re.findall(r"(?:configs|tools|projects|adapruner_det|tests|docs)/[\w./-]+\.(?:py|yaml|md|sh)",
                       (ROOT / page).read_text())  # fmt: skip
    missing = sorted({path for path in named if not (ROOT / path).exists()})
    assert not missing


PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("datasets/*.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page):
    for path, heading in re.findall(r"\]\((?!https?:)([^)#\s]*)#?([^)]*)\)", page.read_text()):
        target = (page.parent / path) if path else page
        assert target.exists(), path
        if heading:
            titles = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
            anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
            assert heading in anchors, f"{path}#{heading}"


@pytest.mark.parametrize("page", ["README.md", "docs/method.md", "docs/results.md"])
def test_no_page_waits_for_a_number(page):
    assert not re.findall(r"^[A-Z]+_(?:TABLE|TEXT)$", (ROOT / page).read_text(), re.MULTILINE)
