"""What keeps the repository honest about itself: pins, ranges, Python versions and commands agree with each other."""

import re
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).parent.parent
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MAKEFILE = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
WORKFLOW = yaml.safe_load((REPOSITORY / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
PYTHONS = WORKFLOW["jobs"]["test"]["strategy"]["matrix"]["python"]
PINS = [Requirement(line.partition("  #")[0]) for line
        in (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
ASKED = [Requirement(text) for part in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
         for text in part]


def pins_of(name: str, python: str, system: str) -> list[Requirement]:
    where = {"python_version": python, "python_full_version": f"{python}.9", "sys_platform": system,
             "platform_machine": "arm64" if system == "darwin" else "x86_64"}
    return [pin for pin in PINS if canonicalize_name(pin.name) == canonicalize_name(name)
            and (pin.marker is None or pin.marker.evaluate(where))]


@pytest.mark.parametrize("system", ["linux", "darwin"])
@pytest.mark.parametrize("python", PYTHONS)
def test_every_requirement_has_one_pin_within_its_range(python, system):
    for asked in ASKED:
        if asked.name == PROJECT["name"]:
            continue
        pins = pins_of(asked.name, python, system)
        assert len(pins) == 1, f"{asked.name} has {len(pins)} pins: run make constraints"
        version = next(iter(pins[0].specifier)).version
        assert asked.specifier.contains(version, prereleases=True), f"{asked} and {pins[0]}: run make constraints"


def test_a_pin_is_one_exact_version_from_the_registry():
    for pin in PINS:
        assert pin.url is None and re.fullmatch(r"==[0-9][0-9a-z.]*", str(pin.specifier)), pin
    assert canonicalize_name(PROJECT["name"]) not in {canonicalize_name(pin.name) for pin in PINS}


def test_what_extras_ask_of_each_other_exists():
    asked = {extra for requirement in ASKED if requirement.name == PROJECT["name"] for extra in requirement.extras}
    assert asked and asked <= set(PROJECT["optional-dependencies"])


def test_the_workflow_tries_the_pythons_that_the_package_names():
    named = [text.rpartition(" ")[2] for text in PROJECT["classifiers"]
             if text.startswith("Programming Language :: Python :: 3.")]
    assert PYTHONS == named
    assert all(SpecifierSet(PROJECT["requires-python"]).contains(python) for python in PYTHONS)
    assert PROJECT["requires-python"] == f">={PYTHONS[0]}"
    used = {step["with"]["python-version"] for job in WORKFLOW["jobs"].values() for step in job["steps"]
            if "python-version" in step.get("with", {})}
    assert used <= {*PYTHONS, "${{ matrix.python }}"}


def test_this_python_is_one_that_the_package_is_for():
    assert SpecifierSet(PROJECT["requires-python"]).contains("{}.{}".format(*sys.version_info))


def test_pinned_and_loose_versions_are_both_tried():
    matrix = WORKFLOW["jobs"]["test"]["strategy"]["matrix"]
    assert {*matrix["versions"], *(extra["versions"] for extra in matrix["include"])} == {"pinned", "newest"}


def test_every_target_it_names_is_in_the_makefile():
    rules = re.findall(r"^([a-z -]+):(?! [A-Z]+ :=)", MAKEFILE, re.MULTILINE)
    targets = {target for rule in rules for target in rule.split()}
    docs = [path.relative_to(REPOSITORY) for path in (REPOSITORY / "docs").glob("*.md")]
    for file in ("README.md", *docs, ".ci/run", ".github/workflows/ci.yml", ".pre-commit-config.yaml"):
        text = (REPOSITORY / file).read_text(encoding="utf-8")
        named = set(re.findall(r"(?:^|[`:] ?)make ([a-z][a-z-]*)", text, re.MULTILINE))
        assert named <= targets, f"{file} names {sorted(named - targets)}"
    phony = re.search(r"^\.PHONY: (.*)", MAKEFILE, re.MULTILINE)
    assert phony is not None and set(phony[1].split()) == targets


def test_lint_before_a_commit_is_what_make_lint_does():
    hooks = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    assert recipe is not None
    for line, hook in zip(recipe[1].splitlines(), hooks, strict=True):
        tool = line.strip().removeprefix("$(BIN)/")
        assert tool.startswith(hook["entry"].removeprefix(".venv/bin/").removesuffix(" --force-exclude")), (tool, hook)
