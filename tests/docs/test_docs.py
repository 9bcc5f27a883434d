"""What the documents tell a reader to type is accepted, and what they point to exists."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

import edl_jax
from edl_jax import data, downstream, loss, pretrain, search
from edl_jax.cli import main as cli
from edl_jax.downstream import evaluate
from edl_jax.loss.adapters.nll import nll_function
from edl_jax.pretrain import design_mixture
from edl_jax.study import ablate, compare, correlate, eliminate, flatness, losses, report, summary, surrogates, transfer

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
_LOOP_VARIABLES = {"$seed": "0", "$loss": "edl", "$resume": ""}


def commands() -> list[str]:
    found = []
    for page in PAGES:
        for block in re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                found += re.findall(r"python run\.py ([^#;]*)", line)
    return sorted({command.strip() for command in found})


@pytest.mark.parametrize("command", commands())
def test_documented_command_is_accepted(command, tmp_path, monkeypatch, capsys):
    accepted = []

    def accept(*args, **kwargs):
        accepted.append((args, kwargs))
        raise KeyboardInterrupt  # stop before the work

    studies = (ablate, compare, correlate, eliminate, flatness, losses, report, surrogates, transfer)
    for module in (*studies, design_mixture, downstream, evaluate, pretrain, search):
        monkeypatch.setattr(module, "run", accept)
    for module, name in (
        (summary, "read"),
        (data, "prepare"),
        *((downstream, name) for name in ("run_seeds", "predict", "export")),
        (search, "run_seeds"),
    ):
        monkeypatch.setattr(module, name, accept)
    for variable, value in _LOOP_VARIABLES.items():
        command = command.replace(variable, value)
    arguments = [argument for argument in shlex.split(command) if argument not in ("[RUN", "...]")]
    monkeypatch.chdir(tmp_path)
    for preset in (Path(argument) for argument in arguments if argument.endswith(".yaml")):
        preset.parent.mkdir(parents=True, exist_ok=True)
        preset.touch()  # what a command before this one writes
    try:
        code = cli.main(arguments)
    except SystemExit as stop:  # --help
        code = stop.code
    assert accepted or code == 0, capsys.readouterr().err


def test_the_front_page_is_short_and_names_both_commands():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) < 120
    assert "make run" in text
    assert "make test" in text


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda page: str(page.relative_to(ROOT)))
def test_lines_fit(page):
    lines = page.read_text(encoding="utf-8").splitlines()
    long = [line for line in lines if len(line) > 120 and not line.startswith("|") and "https://" not in line]
    assert long == []


def test_history_is_in_the_changelog_alone():
    words = ("formerly", "former default", "first version", "used to be", "no longer", "previously", "fourteen more")
    texts = {page.name: page.read_text(encoding="utf-8").lower() for page in PAGES}
    assert [(name, word) for name, text in texts.items() for word in words if word in text] == []


@pytest.mark.parametrize("page", PAGES, ids=_NAMES)
def test_relative_links_exist(page):
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_every_page_is_in_the_navigation():
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    listed = re.findall(r"[\w/]+\.md", yaml.safe_dump(site["nav"]))
    assert sorted(listed) == sorted(str(page.relative_to(ROOT / "docs")) for page in PAGES[1:])


def test_one_version_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == edl_jax.__version__
    assert f"## {edl_jax.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_papers_and_their_authors():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    papers = [citation["preferred-citation"], *citation["references"]]
    assert len(papers) == readme.count("@article") == 3
    for paper in papers:
        assert paper["title"] in readme
        assert paper["identifiers"][0]["value"] in readme
        for author in paper["authors"]:
            assert f"{author['given-names']} {author['family-names']}" in readme


def test_the_losses_of_p_t_are_listed():
    section = (ROOT / "docs" / "losses.md").read_text(encoding="utf-8").split("## One loss, many places")[1]
    listed = set(re.findall(r"`(\w+)`", section.split("are. So they")[0]))
    assert listed == {name for name in loss.names() if nll_function(loss.get(name)) is not None}
