"""How the source is laid out: names, sizes, maps and directions that keep a newcomer from getting lost."""

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "standpipe"
MODULES = sorted(SOURCE.rglob("*.py"))
ROOMS = sorted(path.parent for path in MODULES if path.name == "__init__.py")
SIBLINGS = {"openai", "anthropic", "ollama", "harmony"}
"""Dialects: the same role has the same file name in each, and nowhere else."""
MOST_LINES = 450
MOST_MODULES = 200
"""A new one must be worth opening on its own: fold a small one into its only user before this is raised."""
MAPS = {"__init__.py", "__main__.py"}
"""What every room has, and what starts the program: no modules to look for."""


def name(path):
    return ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__")


def test_there_are_not_too_many_modules_and_none_is_too_long():
    assert len([path for path in MODULES if path.name not in MAPS]) <= MOST_MODULES
    lengths = {name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert {module: lines for module, lines in lengths.items() if lines > MOST_LINES} == {}


def test_no_file_name_stands_in_two_rooms():
    places = defaultdict(set)
    for path in MODULES:
        if path.name not in MAPS:
            parts = path.relative_to(SOURCE).parts
            dialect = parts[0] == "dialects" and len(parts) > 2 and parts[1] in SIBLINGS
            places[path.name].add("dialects" if dialect else str(path.parent.relative_to(SOURCE)))
    assert {file: rooms for file, rooms in places.items() if len(rooms) > 1} == {}


@pytest.mark.parametrize("room", ROOMS, ids=name)
def test_a_room_has_a_map_that_names_every_module_in_it(room):
    words = ast.get_docstring(ast.parse((room / "__init__.py").read_text(encoding="utf-8"))) or ""
    here = {path.stem for path in room.glob("*.py")} - {"__init__", "__main__"}
    here |= {other.name for other in ROOMS if other.parent == room}
    assert {module for module in here if not re.search(rf"\b{module}\b", words)} == set()


def imported(path, known):
    """The modules of ours that a module imports, for types alone as well: a circle of types is a circle of ideas."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in known else node.module)
    return found & known - {name(path)}


def test_no_modules_import_each_other_in_a_circle():
    known = {name(path) for path in MODULES}
    graph = {name(path): imported(path, known) for path in MODULES}
    done, trail = set(), []

    def walk(module):
        if module in trail:
            circle = [*trail[trail.index(module) :], module]
            raise AssertionError(" -> ".join(circle))
        if module in done:
            return
        trail.append(module)
        for other in sorted(graph[module]):
            walk(other)
        done.add(trail.pop())

    for module in sorted(graph):
        walk(module)
