"""What README and docs show: their findings are the recorded ones, their code runs, links and commands lead
somewhere."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from conftest import fit_quietly
from typer.testing import CliRunner

from fer_helpers import cli
from fer_helpers.files import FerError
from fer_helpers.models import architectures, base
from fer_helpers.models.heads import RegionPool
from fer_helpers.report import claims, summary, verdicts
from fer_helpers.report.results import recall
from fer_helpers.training.config import TrainConfig
from fer_helpers.training.trainer import prepare_faces

REPOSITORY = Path(__file__).parent.parent
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
PAGES = {path: path.read_text(encoding="utf-8") for path in (REPOSITORY / "README.md",
                                                             *sorted((REPOSITORY / "docs").glob("*.md")))}


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", "\n".join(PAGES.values()), re.DOTALL)


def test_readme_opens_with_the_studys_claims_and_what_became_of_them(monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    printed = CliRunner().invoke(cli.app, ["results", "--verdicts"])
    assert printed.exit_code == 0 and printed.stdout.strip() in README
    assert README.index(printed.stdout.strip()) < README.index("make report")
    assert len(README.split()) <= 1200


def test_the_page_of_results_is_what_the_recorded_runs_say(monkeypatch, tmp_path):
    monkeypatch.chdir(REPOSITORY)
    printed = CliRunner().invoke(cli.app, ["results", "--figure", str(tmp_path / "findings.svg")])
    assert printed.exit_code == 0 and printed.stdout.strip() in PAGES[REPOSITORY / "docs" / "results.md"]
    assert (tmp_path / "findings.svg").read_text(encoding="utf-8").lstrip().startswith("<?xml")


def test_every_verdict_is_borne_out_by_its_record(monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    found = verdicts.verdicts()
    assert len(found) >= 10 and [verdict.said for verdict in found if not verdict.claim.holds] == []


@pytest.mark.parametrize(("place", "table", "change"), [
    ("05_class_ambiguity", "pairwise", {"meaning_rank": 9}), ("05_class_ambiguity", "width", {"ratio": 1.0}),
    ("03_architectures/6_classes", "early", {"resnet50": 1.8}),
    ("06_failure_analysis", "grown", {"region": "nose"}),
    ("05_class_ambiguity/methods", "outcomes", {"p_holm": 0.001})])
def test_a_verdict_fails_when_its_record_is_changed_by_hand(clone, place, table, change):
    shutil.copytree(REPOSITORY / "data", clone / "data")
    assert all(verdict.claim.holds for verdict in verdicts.verdicts())
    path = clone / "data" / "results" / place / f"{table}.csv"
    pd.read_csv(path, index_col=0).assign(**change).to_csv(path)
    assert any(str(verdict.claim).startswith("*Not borne out here:*") for verdict in verdicts.verdicts())


def test_a_claim_fails_when_the_answers_behind_it_are_changed(clone):
    shutil.copytree(REPOSITORY / "data", clone / "data")
    for number, notebook, file in (("05", "05_class_ambiguity", "metrics.json"),
                                   ("06", "06_failure_analysis", "predictions.csv")):
        assert all(claim.holds for claim in claims.recorded(number))
        path = next((clone / "data" / "results" / notebook).glob(f"*-c6-*/{file}"))
        if file == "metrics.json":  # every fearful face called happy
            kept = json.loads(path.read_text())
            kept["test"]["confusion"][1] = [0, 0, 496, 0, 0, 0]
            path.write_text(json.dumps(kept))
        else:
            table = pd.read_csv(path)
            answers = table["predicted"].sample(frac=1, random_state=0).to_numpy()
            table.assign(predicted=answers).to_csv(path, index=False)
        assert not all(claim.holds for claim in claims.recorded(number))


@pytest.mark.parametrize("number", claims.NOTEBOOKS)
def test_a_claim_is_short_and_has_few_numbers(number, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    for claim in claims.recorded(number):
        text = re.sub(r"\[[^]]*\]|ResNet50|VGG\d+|FER2013", "", str(claim))
        assert len(text.split()) <= 40 and len(re.findall(r"\d[\d,.]*", text)) <= 3, claim


def test_where_nothing_is_recorded_the_error_says_what_to_do(clone):
    with pytest.raises(FerError, match="record=True"):
        summary.markdown()


def test_the_architecture_it_adds_is_short_and_learns(monkeypatch, faces):
    monkeypatch.setitem(base.REGISTRY, "tiny", base.Network)  # forgotten afterwards
    code = next(block for block in blocks("python") if "@register_model" in block)
    assert len(code.splitlines()) <= 20
    exec(compile(code, "docs/training.md", "exec"), dict(vars(architectures)))
    view = prepare_faces(TrainConfig(classes=6), faces)
    config = TrainConfig(arch="tiny", classes=6, epochs=15, batch_size=16, augmentation="none", lr=0.01)
    assert fit_quietly(config, view).history["val_accuracy"].max() > 0.5
    bare = fit_quietly(replace(config, epochs=1, batch_norm=False, head="regions"), view)
    assert isinstance(bare.model.pool, RegionPool)
    assert not any("running_mean" in name for name in bare.model.state_dict())


def test_every_other_python_block_is_whole():
    for block in blocks("python"):
        compile(block, "docs", "exec")


def test_the_copies_in_test_are_as_many_as_recorded():
    copies = recall("01_data_exploration", "copies", REPOSITORY / "data" / "results")["copies"]
    same, changed = (f"{copies[name].mean():.1%}" for name in ("identical", "changed"))
    assert f"{same} stand there to the pixel, another {changed} cut" in README
    card = (REPOSITORY / "data" / "README.md").read_text(encoding="utf-8")
    assert f"{copies['identical'].sum()} of {len(copies):,} test images ({same})" in card
    assert f"Another {copies['changed'].sum()} test images ({changed})" in card


def test_every_link_to_a_file_leads_there():
    targets = [(path, target) for path, text in PAGES.items() for target in re.findall(r"\]\(([^)#]+)", text)
               if "://" not in target]
    assert targets and [target for path, target in targets if not (path.parent / target).exists()] == []


def test_every_command_it_names_exists():
    named = {tuple(found.split()) for found in re.findall(r"\bfer ((?:data )?[a-z]+)\b", " ".join(blocks("bash")))}
    known = {(command.name or command.callback.__name__,) for command in cli.app.registered_commands}
    known |= {("data", command.name) for command in cli.data_app.registered_commands}
    assert named and named <= known
