"""What the README shows: its findings are the recorded ones, its code runs, its links and commands lead somewhere."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import fit_quietly
from typer.testing import CliRunner

from fer_helpers import cli, headline, models
from fer_helpers.config import TrainConfig
from fer_helpers.files import FerError
from fer_helpers.training import prepare_faces

REPOSITORY = Path(__file__).parent.parent
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_it_opens_with_what_the_recorded_runs_say(monkeypatch, tmp_path):
    monkeypatch.chdir(REPOSITORY)
    printed = CliRunner().invoke(cli.app, ["findings", "--figure", str(tmp_path / "findings.svg")])
    assert printed.exit_code == 0 and printed.stdout.strip() in README
    assert README.index(printed.stdout.strip()) < README.index("make report")
    assert (tmp_path / "findings.svg").read_text(encoding="utf-8").lstrip().startswith("<?xml")


def test_where_nothing_is_recorded_the_error_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FerError, match="record=True"):
        headline.markdown()


def test_the_architecture_it_adds_is_short_and_learns(monkeypatch, faces):
    monkeypatch.setattr(models, "_REGISTRY", dict(models._REGISTRY))
    code = next(block for block in blocks("python") if "@register_model" in block)
    assert len(code.splitlines()) <= 20
    exec(compile(code, "README.md", "exec"), dict(vars(models)))
    view = prepare_faces(TrainConfig(classes=6), faces)
    config = TrainConfig(arch="tiny", classes=6, epochs=15, batch_size=16, augmentation="none", lr=0.01)
    assert fit_quietly(config, view).history["val_accuracy"].max() > 0.5
    bare = fit_quietly(replace(config, epochs=1, batch_norm=False), view)
    assert not any("running_mean" in name for name in bare.model.state_dict())


def test_every_other_python_block_is_whole():
    for block in blocks("python"):
        compile(block, "README.md", "exec")


def test_every_link_to_a_file_leads_there():
    targets = [target for target in re.findall(r"\]\(([^)#]+)", README) if "://" not in target]
    assert targets and [target for target in targets if not (REPOSITORY / target).exists()] == []


def test_every_command_it_names_exists():
    named = {tuple(found.split()) for found in re.findall(r"\bfer ((?:data )?[a-z]+)\b", " ".join(blocks("bash")))}
    known = {(command.name or command.callback.__name__,) for command in cli.app.registered_commands}
    known |= {("data", command.name) for command in cli.data_app.registered_commands}
    assert named and named <= known
