"""The wings: what they hand on is there, nothing is hidden behind a room of the same name, and imports go one way."""

import importlib
import pkgutil
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import fer_helpers

WINGS = [module.name for module in pkgutil.iter_modules(fer_helpers.__path__) if module.ispkg]
PROJECT = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("wing", ["", *WINGS])
def test_what_a_wing_hands_on_is_there_and_what_it_does_not_is_not(wing):
    package = importlib.import_module(f"fer_helpers.{wing}".rstrip("."))
    assert package.__doc__ and package.__all__ == sorted(set(package.__all__), key=package.__all__.index)
    for name in package.__all__:
        thing = getattr(package, name)
        assert getattr(thing, "__name__", name) == name
    name = "nothing"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        getattr(package, name)


@pytest.mark.parametrize("wing", WINGS)
def test_no_room_has_the_name_of_something_that_its_wing_hands_on(wing):
    """Once imported, the room would stand in its place."""
    package = importlib.import_module(f"fer_helpers.{wing}")
    assert not {module.name for module in pkgutil.iter_modules(package.__path__)} & set(package.__all__)


def test_every_wing_has_its_layer():
    contract, = PROJECT["tool"]["importlinter"]["contracts"]
    layers = {name.strip() for layer in contract["layers"] for name in layer.split("|")}
    assert layers == {module.name for module in pkgutil.iter_modules(fer_helpers.__path__)}


def test_importing_the_package_and_its_wings_imports_no_room():
    code = ("import sys, importlib; [importlib.import_module(f'fer_helpers.{wing}') for wing in " + repr(WINGS) + "]; "
            "print([name for name in sys.modules if name.count('.') > 1 and name.startswith('fer_helpers')], "
            "'torch' in sys.modules)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "False"]


def test_the_map_of_the_package_names_every_room():
    page = (Path(__file__).parent.parent / "docs" / "contributing.md").read_text(encoding="utf-8")
    told = dict(re.findall(r"^\| `(\w+)` \| [^|]*\|([^|]*)\|$", page, re.MULTILINE))
    for wing in WINGS:
        package = importlib.import_module(f"fer_helpers.{wing}")
        rooms = [module.name for module in pkgutil.iter_modules(package.__path__)]
        assert re.findall(r"`(\w+)`", told[wing]) == sorted(rooms)
