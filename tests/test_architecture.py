"""The house: which room may import which, held by the imports themselves."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# A room may import those on lower floors, and no other on its own.
FLOORS = (
    ("core",),
    ("stats", "loss", "strategies", "backend"),
    ("synthetic", "models", "data"),
    ("training", "plot"),
    ("pretrain", "downstream", "search"),
    ("study",),
    ("cli",),
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
# What a room may import of core, where that is not all of it.
CORE_OF_LOSS = {"edl_jax.core.errors"}


def sources(root: Path) -> dict[str, Path]:
    """Return module -> file of the package `edl_jax` below `root`."""
    found = {}
    for file in sorted((root / "edl_jax").rglob("*.py")):
        parts = file.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def imports(modules: dict[str, Path]) -> list[tuple[str, int, str, str | None]]:
    """Return (importing module, line, imported module, imported name or None) of every import of the package."""
    found = []
    for module, file in modules.items():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found += [(module, node.lineno, alias.name, None) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{file}:{node.lineno}: relative import"
                for alias in node.names:
                    full = f"{node.module}.{alias.name}"
                    found.append(
                        (module, node.lineno, *((full, None) if full in modules else (node.module, alias.name)))
                    )
    return [found_import for found_import in found if found_import[2].split(".")[0] == "edl_jax"]


def room(module: str) -> str | None:
    """Return the room of a module, None for the package itself and its entry."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] != "__main__" else None


def offences(root: Path) -> list[str]:
    """Return one line for each import that breaks a rule, and for each circle of modules."""
    modules = sources(root)
    lines = []
    arrows: dict[str, set[str]] = {module: set() for module in modules}
    for module, line, target, name in imports(modules):
        here, there = room(module), room(target)
        place = f"{modules[module].relative_to(root)}:{line}"
        if target != module:
            arrows[module].add(target)
        if here != there and any(
            part.startswith("_") and part != "__version__" for part in (*target.split("."), name or "")
        ):
            lines.append(f"{place}: private name of another room: {target}{f'.{name}' if name else ''}")
        if here is None or there is None or here == there:
            continue
        if FLOOR[here] <= FLOOR[there]:
            lines.append(f"{place}: arrow that does not point down: {here} imports {there}")
        if here == "loss" and target not in CORE_OF_LOSS:
            lines.append(f"{place}: loss may import {', '.join(CORE_OF_LOSS)} alone, not {target}")
    return lines + [f"circle: {' -> '.join(circle)}" for circle in circles(arrows)]


def circles(arrows: dict[str, set[str]]) -> list[list[str]]:
    """Return a circle of modules for each one that closes in a depth-first walk."""
    found, done = [], set()

    def walk(module: str, path: list[str]) -> None:
        if module in path:
            found.append([*path[path.index(module) :], module])
        elif module not in done:
            for target in sorted(arrows.get(module, ())):
                walk(target, [*path, module])
            done.add(module)

    for module in sorted(arrows):
        walk(module, [])
    return found


def test_no_import_breaks_a_rule():
    assert offences(ROOT) == []


def test_nothing_lives_at_the_root():
    assert {file.name for file in (ROOT / "edl_jax").glob("*.py")} == {"__init__.py", "__main__.py"}
    rooms = {file.name for file in (ROOT / "edl_jax").iterdir() if file.is_dir() and file.name != "__pycache__"}
    assert rooms <= FLOOR.keys()


def test_commands_are_thin():
    commands = [
        file for file in (ROOT / "edl_jax" / "cli").glob("*.py") if file.stem not in ("__init__", "main", "flags")
    ]
    lengths = {file.name: len(file.read_text(encoding="utf-8").splitlines()) for file in commands}
    assert commands
    assert {name: length for name, length in lengths.items() if length >= 60} == {}


PLANTED = {
    "up": (
        {"data/a.py": "from edl_jax.training import b"},
        ["edl_jax/data/a.py:1: arrow that does not point down: data imports training"],
    ),
    "same floor, inside a function": (
        {"data/a.py": "def f():\n    from edl_jax.models import b"},
        ["edl_jax/data/a.py:2: arrow that does not point down: data imports models"],
    ),
    "circle": (
        {"core/a.py": "import edl_jax.core.b", "core/b.py": "from edl_jax.core import a"},
        ["circle: edl_jax.core.a -> edl_jax.core.b -> edl_jax.core.a"],
    ),
    "private name": (
        {"study/a.py": "from edl_jax.core.a import _b"},
        ["edl_jax/study/a.py:1: private name of another room: edl_jax.core.a._b"],
    ),
    "private module": (
        {"study/a.py": "from edl_jax.core import _a", "core/_a.py": ""},
        ["edl_jax/study/a.py:1: private name of another room: edl_jax.core._a"],
    ),
    "loss beyond errors": (
        {"loss/a.py": "from edl_jax.core import errors, runs", "core/errors.py": "", "core/runs.py": ""},
        ["edl_jax/loss/a.py:1: loss may import edl_jax.core.errors alone, not edl_jax.core.runs"],
    ),
    "loss, and up": (
        {"loss/a.py": "from edl_jax.training import b"},
        [
            "edl_jax/loss/a.py:1: arrow that does not point down: loss imports training",
            "edl_jax/loss/a.py:1: loss may import edl_jax.core.errors alone, not edl_jax.training",
        ],
    ),
    "nothing": (
        {"study/a.py": "from edl_jax import __version__\nfrom edl_jax.core.a import b\nfrom edl_jax.study.c import _d"},
        [],
    ),
}


@pytest.mark.parametrize("case", PLANTED)
def test_a_planted_offence_is_named(case, tmp_path):
    planted, expected = PLANTED[case]
    for name, text in {"__init__.py": "", **planted}.items():
        file = tmp_path / "edl_jax" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    assert offences(tmp_path) == expected
