"""`report`: every number is on the page, nothing leads away from it, and what is bad is one line."""

import csv
import html.parser
import json
import re
import shutil

import pytest
from browser import CHROMIUM, Browser
from report_cases import DEFAULT, HOSTILE, environment, make_ablation, make_grid, make_run, write

from edl_jax.cli import main as cli
from edl_jax.plot.loss import Profile
from edl_jax.study.report import claims, drawing, shapes, study


class Reader(html.parser.HTMLParser):
    """Tables, addresses and texts of a page."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.addresses, self.scripts, self.text, self.ids, self.titles = [], [], 0, "", [], []
        self._value = None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.addresses += [value for name, value in attributes if name in ("src", "href", "action", "data", "srcset")]
        self.scripts += tag == "script"
        self.ids += [found["id"]] if "id" in found else []
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif "value" in (found.get("class") or "").split() or (tag == "button" and "class" not in found):
            self._value = ""

    def handle_data(self, data):
        self.text += data
        if self._value is not None:
            self._value += data

    def handle_endtag(self, tag):
        if tag in ("span", "code", "button") and self._value is not None:
            self.tables[-1][-1].append(self._value)
            self._value = None


def report(*directories, out, **options):
    flags = [word for name, value in options.items() for word in (f"--{name}", *([value] if value is not True else []))]
    return cli.main(["report", *map(str, directories), "--out", str(out), *flags])


@pytest.fixture(scope="module")
def undrawn():
    """Draw no figure, compute no loss: tests/plot/test_learning.py does."""

    def touch(figures, again=""):
        for path in figures:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b'<svg xmlns="http://www.w3.org/2000/svg" width="72pt" height="36pt"></svg>')

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawing, "draw_all", touch)
        patch.setattr("edl_jax.study.compare.figures.draw_all", touch)
        patch.setattr(shapes, "profile", lambda loss, p, num_classes: Profile(1.0 - p, p / p))
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory, undrawn):
    """A folder with a grid, a run and an ablation, and the report of all three."""
    folder = tmp_path_factory.mktemp("report")
    make_grid(folder / "runs" / "grid")
    make_run(folder / "runs" / "one", DEFAULT, 0.9)
    make_ablation(folder / "runs" / "ablation", -0.05, 0.001)
    assert report(folder / "runs", out=folder / "page.html") == 0
    return folder


@pytest.fixture(scope="module")
def page(made):
    return Reader((made / "page.html").read_text(encoding="utf-8"))


def read_csv(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_every_cell_of_every_csv_is_on_the_page_in_its_place(made, page):
    files = list((made / "page_files").glob("*.csv"))
    tables = [json.dumps(table) for table in page.tables]
    assert len(files) == len(tables) > 10
    assert sorted(json.dumps(read_csv(path)) for path in files) == sorted(tables)
    for name in ("cells.csv", "comparison.csv"):  # of the grid, to the letter
        assert json.dumps(read_csv(made / "runs" / "grid" / name)) in tables
    text = (made / "page.md").read_text(encoding="utf-8").replace("\\", "")
    assert all(cell in text for path in files for row in read_csv(path) for cell in row)


def test_nothing_leads_away_from_the_page(made, page):
    assert {re.sub(r"^(data:[\w/+]*|#).*", r"\1", address) for address in page.addresses} == {
        *("data:", "data:image/svg+xml", "#")
    }
    assert {address[1:] for address in page.addresses if address.startswith("#")} <= {*page.ids}
    assert len({*page.ids}) == len(page.ids)
    text = (made / "page.html").read_text(encoding="utf-8")
    assert "Content-Security-Policy" in text
    assert not re.findall(r"(?:https?:)?//[a-z]", re.sub(r"data:[^\"]*", "", text))
    links = re.findall(r"\]\(([^)]*)\)", (made / "page.md").read_text(encoding="utf-8"))
    assert links
    assert all((made / link).is_file() for link in links)


def test_the_best_the_significant_and_several_revisions_are_marked(made, page):
    text = (made / "page.html").read_text(encoding="utf-8")
    overview = next(table for table in page.tables if table[0][:3] == ["loss", "lr", "n"])
    assert [row[0] for row in overview[1:]] == ["cross_entropy (baseline)", "edl", "poly1 (epsilon=2) †"]
    assert re.search(
        r'<strong><span class="value">92\.\d\d \([^<]*</span></strong>&nbsp;<span class="mark good"[^>]*>▲', text
    )
    tests = next(table for table in page.tables if table[0][-2:] == ["verdict", "seeds needed"])
    assert [row[-2] for row in tests[1:]] == ["better", "level"]
    for meaning in (
        "the best of its column",
        "better than the baseline",
        "level with the baseline",
        "several revisions",
    ):
        assert meaning in page.text


def test_claims_stand_beside_what_speaks_to_them(page):
    rows = [row for table in page.tables if table[0][:2] == ["claim", "reported"] for row in table[1:]]
    assert len(rows) == len(claims.claims()["claims"])
    by_claim = {row[0]: row for row in rows}
    better = by_claim["A loss that was evolved on synthetic pairs replaces cross-entropy, and classifies better"]
    assert better[2].startswith("edl: +1.99 (")
    assert (better[3], better[4]) == ("4", "holds")
    chaos = by_claim["Chaotic (logistic) mutation ends at a lower best fitness than Gaussian mutation"]
    assert (chaos[2], chaos[3], chaos[4]) == (
        "gaussian minus logistic, 10³ (F/F* − 1): -50 (-60 to -40), p (Holm) = 0.001",
        "10",
        "does not hold",
    )
    left = [row for row in rows if row[2] == "not measured in these directories"]
    assert len(left) == len(rows) - 2


@pytest.mark.parametrize(
    ("rule", "sources", "outcome"),
    [
        ("noise", {"difference": 0.05, "p": 0.001}, "holds"),
        ("noise", {"difference": 0.05, "p": 0.2}, "cannot be told here"),
        ("noise", {"difference": 0.05, "p": None}, "cannot be told here"),
    ],
)
def test_a_claim_holds_only_where_a_test_says_so(tmp_path, rule, sources, outcome):
    make_ablation(tmp_path / "a", **sources)
    found, _ = study.sources.read([tmp_path])
    chosen = next(each for each in claims.claims()["claims"] if each["rule"] == rule)
    (evidence,) = claims.RULES[rule]([], found, **chosen["options"])
    assert evidence.outcome == outcome


def test_a_number_predicts_by_its_own_correlation_of_the_evolved_losses(tmp_path):
    row = {"number": "fitness_ratio", "network": "mlp", "subset": "evolved", "measure": "spearman", "artifacts": 23}
    row |= {"value": 0.7, "low": 0.4, "high": 0.9, "p_holm": 0.001}
    others = [{**row, "subset": "all", "value": -0.7}, {**row, "measure": "kendall"}, {**row, "number": "pull_50"}]
    write(tmp_path / "c" / "config.json", {"command": "correlate", "config": {}})
    write(tmp_path / "c" / "environment.json", environment(command="correlate"))
    write(tmp_path / "c" / "result.json", {"rows": [*others, row, {**row, "value": -0.7}, {**row, "p_holm": 0.2}]})
    found, _ = study.sources.read([tmp_path])
    options = next(each["options"] for each in claims.claims()["claims"] if each["rule"] == "predicts")
    evidence = claims.RULES["predicts"]([], found, **options)
    assert [each.outcome for each in evidence] == ["holds", "does not hold", "cannot be told here"]
    assert evidence[0].ours == "mlp: 0.7 (0.4 to 0.9), p (Holm) = 0.001"


def test_every_claim_names_a_paper_and_a_rule_that_there_are():
    found = claims.claims()
    assert {each["paper"] for each in found["claims"]} == {*found["papers"]}
    assert {each["rule"] for each in found["claims"]} == {*claims.RULES}
    for each in found["claims"]:
        assert claims.RULES[each["rule"]]([], [], **each["options"]) == []


def test_names_and_errors_from_files_are_text(tmp_path, undrawn, capsys):
    make_grid(tmp_path / f"grid {HOSTILE.replace('/', '_')}", left=1, error=f"it said {HOSTILE}", seeds=2)
    folder = next(tmp_path.iterdir())
    config = json.loads((folder / "config.json").read_text())
    (folder / "report.md").write_text("# never shown")
    write(folder / "config.json", config)
    other = tmp_path / "other"
    write(other / "config.json", {"command": "unheard-of", "config": {}})
    write(other / "result.json", {"a": HOSTILE, "b": {"c": 0.5, "d": [1, 2]}})
    (other / "report.md").write_text(
        f"# A <b>title</b>\n\n| x | **y** |\n| --- | --- |\n| {HOSTILE} | **1.5** |\n\n![no](/etc/passwd)\n"
    )
    (other / "it's.csv").write_text(f'h\n"{HOSTILE}"\n')
    assert report(tmp_path, out=tmp_path / "page.html", title=HOSTILE) == 0
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    page = Reader(text)
    assert page.scripts == 1
    assert "alert('x')" not in re.sub(r"&lt;script&gt;alert\(&#39;x&#39;\)", "", text)
    assert text.count("&lt;script&gt;alert") > 5
    assert "root:" not in text
    assert [[HOSTILE, "1.5"]] in [table[1:] for table in page.tables]
    assert "never shown" not in text


def test_what_is_not_complete_is_said_first(tmp_path, undrawn, capsys):
    make_grid(tmp_path / "grid", left=2, seeds=2)
    make_grid(tmp_path / "running", left=1, seeds=2)
    (tmp_path / "running" / "result.json").unlink()
    make_run(tmp_path / "run", DEFAULT, 0.9)
    (tmp_path / "run" / "result.json").unlink()
    assert report(tmp_path, out=tmp_path / "page.html") == 0
    out = capsys.readouterr().out
    assert "grid is not complete: 2 of 6 cells have not been run" in out
    assert "running is not complete: 1 of 6 cells have not been run" in out
    assert "run has not finished: it has no result.json. This goes on: edl-jax downstream --resume --out " in out
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert text.index("grid is not complete") < text.index("<main>")


def test_damage_is_one_line_and_nothing_is_written(tmp_path, undrawn, capsys):
    make_grid(tmp_path / "grid", seeds=2)
    whole = (tmp_path / "grid" / "result.json").read_text()
    stored = json.loads(whole)
    damages = {
        "cut": whole[:100],
        "list": "[]",
        "nothing": "{}",
        "no rows": json.dumps({**stored, "comparison": [{"metric": 1}]}),
        "no states": json.dumps({**stored, "cells": [{}]}),
        "another config": json.dumps({**stored, "config": {"losses": 3}}),
    }
    for damage in damages.values():
        (tmp_path / "grid" / "result.json").write_text(damage)
        assert report(tmp_path / "grid", out=tmp_path / "out" / "page.html") == 2
        err = capsys.readouterr().err
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        assert "result.json" in err
    assert not (tmp_path / "out").exists()
    # Beside others in a folder it is left out, and said.
    make_run(tmp_path / "run", DEFAULT, 0.9)
    (tmp_path / "grid" / "result.json").write_text(whole[:100])
    assert report(tmp_path, out=tmp_path / "out" / "page.html") == 0
    assert "Left out: " in capsys.readouterr().out


def test_only_a_report_is_replaced(tmp_path, undrawn, capsys):
    make_run(tmp_path / "run", DEFAULT, 0.9)
    out = tmp_path / "page.html"
    assert report(tmp_path / "run", out=out) == 0
    (tmp_path / "page_files" / "notes.txt").write_text("mine")
    (tmp_path / "page_files" / "mine.csv").write_text("mine")
    first = set((tmp_path / "page_files").rglob("*"))
    assert report(tmp_path / "run", out=out) == 2
    assert "page.html exists: give --overwrite to replace it" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "run")
    make_ablation(tmp_path / "run", 0.1, 0.5)
    assert report(tmp_path / "run", out=out, overwrite=True) == 0
    left = {path.name for path in (tmp_path / "page_files").rglob("*")} & {path.name for path in first}
    assert {"notes.txt", "mine.csv", "files.json"} <= left
    assert not [name for name in left if name.endswith(".svg")]
    (tmp_path / "other_files").mkdir()
    (tmp_path / "other_files" / "result.json").write_text("{}")
    assert report(tmp_path / "run", out=tmp_path / "other.html", overwrite=True) == 2
    assert "other_files is not of a report" in capsys.readouterr().err


def test_equal_directories_give_equal_pages(made, tmp_path, undrawn):
    assert report(made / "runs", out=tmp_path / "page.html") == 0
    assert (tmp_path / "page.html").read_bytes() == (made / "page.html").read_bytes()


def test_a_run_of_several_seeds_and_one_that_was_evaluated(tmp_path, undrawn):
    write(tmp_path / "s" / "config.json", {"command": "downstream-seeds", "config": {"settings": {}, "seeds": [0, 1]}})
    runs = [{"seed": seed, "test_accuracy": 0.9 + 0.01 * seed, "test_nll": None} for seed in (0, 1)]
    summary = {"mean": {"test_accuracy": 0.905}, "std": {"test_accuracy": 0.007}, "diverged": {"2": "not finite"}}
    write(tmp_path / "s" / "result.json", {"seeds": [0, 1], "runs": runs, **summary})
    numbers = {"temperature": None, "scaled_nll": None, "scaled_ece": None}
    make_run(tmp_path / "e", DEFAULT, 0.9, **numbers)
    evaluation = {"dataset": "digits", "temperature": 2.5, "scaled": {"nll": 0.125, "ece": 0.01}}
    write(tmp_path / "e" / "evaluation" / "digits.json", evaluation)
    assert report(tmp_path, out=tmp_path / "page.html") == 0
    page = Reader((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert ["mean", "90.50"] in [row for table in page.tables for row in table]
    assert ["NLL at its temperature", "0.1250"] in [row for table in page.tables for row in table]
    assert "seed 2 diverged: not finite" in page.text


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
def test_a_browser_shows_it_sorts_it_and_complains_about_nothing(tmp_path):
    make_grid(tmp_path / "grid")
    assert report(tmp_path / "grid", out=tmp_path / "page.html") == 0
    browser = Browser()
    try:
        for width in (1400, 400):
            browser.open(tmp_path / "page.html", width=width)
            assert browser.run("document.documentElement.scrollWidth") == width
            images = "[...document.images].every((image) => image.complete && image.naturalWidth > 0)"
            assert browser.run(images)
        column = "[...document.querySelectorAll('#{0} tbody tr')].map((row) => row.cells[{1}].innerText.trim())"
        name = browser.run("document.querySelector('[id$=means-over-seeds]').id")
        for press, order, place in (
            ("focus(); {0}.click()", "ascending", 0),
            ("click()", "descending", -1),
        ):
            button = f"document.querySelectorAll('#{name} th button')[3]"
            browser.run(f"{button}.{press.format(button)}")
            assert browser.run(f"{button}.parentElement.ariaSort") == order
            numbers = [float(text.split()[0]) for text in browser.run(column.format(name, 3))]
            assert numbers == sorted(numbers, reverse=place == -1)
        browser.print(tmp_path / "page.pdf")
        assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")
        assert browser.errors == []
        assert [url for url in browser.requests if not url.startswith(("data:", "file:"))] == []
    finally:
        browser.close()
