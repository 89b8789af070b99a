"""The README and the pages in docs/: their code runs, their links lead somewhere, their figures have rows."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
CODE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[([^\]]*)\]\(([^)\s]+)(?: \"([^\"]*)\")?\)")
TABLE_BODY = re.compile(r"^\|(?: ?-+ ?\|)+\n((?:\|.*\|\n)+)", re.MULTILINE)


def name_of(page):
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_code_of_a_page_runs_from_top_to_bottom(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = page.read_text()
    namespace = {"__name__": "__page__"}
    for block in CODE.finditer(text):
        line = text[: block.start(1)].count("\n")
        exec(compile("\n" * line + block[1], str(page), "exec"), namespace)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_between_files_lead_somewhere(page):
    targets = [link[2].split("#")[0] for link in LINK.finditer(page.read_text())]
    missing = [t for t in targets if t and not t.startswith("http") and not (page.parent / t).exists()]
    assert not missing


def figures():
    """(text, content of the file, path of fields) of every figure in the README that links to where it comes from."""
    for link in LINK.finditer((ROOT / "README.md").read_text()):
        if link[2].endswith(".json") and link[3]:
            content = json.loads((ROOT / link[2]).read_text())
            if link[2].startswith("benchmarks/results/"):
                name, _, path = link[3].rpartition(": ")
                content = {row["name"]: row for row in content["rows"]}[name]
            else:
                path = link[3]
            yield link[1], content, path


def test_figures_in_the_readme_are_those_of_their_rows():
    for text, content, path in figures():
        value = content
        for key in path.split("/"):
            value = value[int(key) if isinstance(value, list) else key]
        number = re.fullmatch(r"[\d,]+(?:\.(\d+))?", text)
        assert number, f"{text!r} is not a figure"
        decimals = len(number[1] or "")
        assert f"{value:,.{decimals}f}" == text, f"{path} is {value}, the README says {text}"


def test_every_number_in_the_readme_tables_of_measurements_has_its_row():
    section = re.search(
        r"^## Measured\n(.*?)^## ", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL
    )
    assert section
    for body in TABLE_BODY.finditer(section[1]):
        for row in body[1].splitlines():
            for cell in row.strip("|").split("|")[1:]:
                assert not re.search(r"\d", LINK.sub("", cell)), f"a figure without its row: {row}"
