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


def test_bytes_between_processes_are_those_of_their_rows():
    rows = json.loads((ROOT / "benchmarks/results/bench_processes.json").read_text())["rows"]
    by_name = {row["name"]: row for row in rows}
    lines = re.findall(
        r"^\| (\w+), (\d+) classifiers \|(.*)\|$", (ROOT / "docs/processes.md").read_text(), re.M
    )
    assert len(lines) == 6
    for solver, n_classifiers, told in lines:
        row = by_name[f"{solver}/{n_classifiers} classifiers/2 processes"]
        phases = row["received_bytes"]
        figures = [row["passes"], row["received_bytes_a_pass"], phases.get("bootstrap"), phases.get("master")]
        wanted = ["" if n is None else f"{n:,.0f}" for n in [*figures, row["received_bytes_in_all"]]]
        assert [cell.strip() for cell in told.split("|")] == wanted


def test_the_arithmetic_of_very_large_tables():
    """Of 10 classifiers and 1,000 attacks a sample, by the figures that the page names."""
    page = (ROOT / "docs/processes.md").read_text()
    pattern = r"^\| 10\^(\d+) \| (\w+), [^|]* \| (\d+) \| ([^|]*) \| ([\d.]+) \| ([\d.]+) GB \|$"
    lines = re.findall(pattern, page, re.M)
    assert {(10 ** int(line[0]), int(line[2])) for line in lines} == {
        (rows, devices) for rows in (10**10, 10**12) for devices in (1, 8, 64)
    }
    for power, storage, devices, place, seconds, core in lines:
        losses = 10 ** int(power) * {"float32": 40, "uint8": 10}[storage]
        bandwidth = int(devices) * (3.35e12 if place == "on the devices" else 55e9)
        assert place != "on the devices" or losses / int(devices) <= 80e9
        held = 1.3 * 10 ** (int(power) - 3) * (10 * 8 + 17)
        for told, computed in ((seconds, losses / bandwidth), (core, held / 1e9)):
            decimals = len(told.partition(".")[2])
            assert f"{computed:.{decimals}f}" == told
