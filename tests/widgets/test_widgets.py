"""The explorers without a browser: what they choose, compute and show. `tests/ui` moves them in JupyterLab."""

import base64
import dataclasses
import io
import os
import pickle
import re
import signal
import threading
import time
from xml.etree import ElementTree

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import easy_faces
from nbclient import NotebookClient
from PIL import Image

from fer_helpers.data.emotions import CLASS_SETS, EMOTIONS, VOTE_COLUMNS
from fer_helpers.data.rendering import RANGES
from fer_helpers.files import FerError
from fer_helpers.inference import loading, pretrained
from fer_helpers.training.config import TrainConfig
from fer_helpers.training.runs import train_run
from fer_helpers.widgets import base, browser, comparer, face_editor, monitor

pytestmark = pytest.mark.usefixtures("figure_style")
TINY = TrainConfig(arch="simple_cnn", classes=6, epochs=2, batch_size=32, train_limit=60)


@pytest.fixture(scope="module")
def voted():
    """Faces with votes; two share their pixels and their label, two more their pixels alone."""
    faces = easy_faces(votes=True)
    labels, images = faces.labels.numpy(), faces.images.clone()
    same = np.flatnonzero((labels == 0) & (faces.split == "train"))
    other = np.flatnonzero((labels == 3) & (faces.split == "train"))
    images[same[1]], images[other[0]] = images[same[0]], images[same[2]]
    votes = faces.votes.clone()
    votes[same[3]] = torch.eye(len(VOTE_COLUMNS))[VOTE_COLUMNS.index("neutral")] * 10
    return dataclasses.replace(faces, images=images, votes=votes), same, other


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def runs(faces, store):
    return [train_run(dataclasses.replace(TINY, lr=lr), faces, store, progress=False) for lr in (1e-3, 3e-3)]


def pixels(picture):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(picture.value.partition("base64,")[2][:-2]))))


def until(condition, seconds=60):
    """Wait for what a thread or process brings about."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


# --- faces to look through


def test_the_table_knows_votes_copies_and_contradictions(voted):
    faces, same, other = voted
    table = browser.face_table(faces)
    assert list(table.index) == list(faces.ids) and (table["predicted"] == "").all()
    assert table["copies"].iloc[same[:2]].tolist() == [1, 1] and table["conflicts"].iloc[same[:2]].tolist() == [0, 0]
    assert table["conflicts"].iloc[[same[2], other[0]]].tolist() == [1, 1] and table["copies"].sum() == 4
    assert table["agreement"].iloc[same[3]] == 0 and (table["agreement"].drop(table.index[same[3]]) == 1).all()


def test_a_run_brings_its_answers_and_the_images_it_held_out(faces, runs):
    view = browser.seen_by(faces, runs[0])
    table = browser.face_table(view, runs[0])
    stored = runs[0].predictions.set_index("id")
    assert view.classes == CLASS_SETS[6] and set(table["split"]) == {"train", "val", "test"}
    assert (table.loc[stored.index, "predicted"] == stored["predicted"]).all()
    assert (table.loc[table["split"] == "test", "confidence"] > 1 / 6 - 1e-6).all()
    assert table.loc[~table.index.isin(stored.index), "confidence"].isna().all()


def test_a_run_on_other_data_is_refused(runs):
    with pytest.raises(FerError, match=f"{runs[0].name}.*other data"):
        browser.seen_by(easy_faces(seed=9), runs[0])


def test_each_filter_keeps_what_it_says_and_they_combine(faces, runs):
    table = browser.face_table(browser.seen_by(faces, runs[0]), runs[0])

    def kept(**choice):
        return table.iloc[browser.filter_faces(table, **choice)]

    assert len(kept()) == len(table)
    assert set(kept(split="test")["split"]) == {"test"} and set(kept(true="fear")["true"]) == {"fear"}
    wrong, right = kept(answer="wrong"), kept(answer="right")
    assert (wrong["predicted"] != wrong["true"]).all() and (right["predicted"] == right["true"]).all()
    assert len(wrong) + len(right) + len(kept(answer="not asked")) == len(table) and len(wrong) and len(right)
    middle = table["confidence"].median()
    assert (kept(confidence=(middle, 1))["confidence"] >= middle).all()
    surest = kept(order="surest first", split="test")["confidence"]
    assert surest.is_monotonic_decreasing and surest.iloc[0] == table.query("split == 'test'")["confidence"].max()
    assert np.isnan(kept(order="least sure first")["confidence"].iloc[-1])  # the unknown come last either way
    assert kept(name="FACE0003").index.tolist() == ["face0003"]
    both = kept(true="fear", answer="wrong", split="test")
    assert both.equals(table[(table["true"] == "fear") & (table["split"] == "test") & (table["predicted"] != "fear")])


def test_filters_by_copies_and_by_agreement(voted):
    faces, same, other = voted
    table = browser.face_table(faces)
    assert set(browser.filter_faces(table, copies="has a copy")) == {*same[:3], other[0]}
    assert set(browser.filter_faces(table, copies="a copy has another label")) == {same[2], other[0]}
    assert len(browser.filter_faces(table, copies="none")) == len(table) - 4
    assert browser.filter_faces(table, agreement=(0, 0.5)).tolist() == [same[3]]
    assert browser.filter_faces(table, order="least agreed first")[0] == same[3]


def test_an_unknown_choice_is_refused(faces):
    with pytest.raises(FerError, match="answer='maybe' is unknown; choose one of any, right"):
        browser.filter_faces(browser.face_table(faces), answer="maybe")


def test_the_browser_pages_and_a_click_tells_all_that_is_known(faces, runs):
    found = browser.face_browser(faces, runs[0])
    gallery = found.gallery
    assert "page 1 of" in gallery.where.value and gallery.back.disabled
    first = [tile.row for tile in gallery.tiles]
    gallery.forth.click()
    assert [tile.row for tile in gallery.tiles][0] == first[-1] + 1 and not gallery.back.disabled
    found.filters["split"].value, found.filters["true"].value = "test", "fear"
    assert len(gallery.rows) == 6 and gallery.back.disabled and gallery.forth.disabled
    tile = gallery.tiles[2]
    tile.button.click()
    assert np.array_equal(pixels(gallery.large), gallery.faces.images[tile.row].numpy())
    for text in (gallery.table.index[tile.row], "label <b>fear</b>, test", "the network's probabilities", "surprise"):
        assert text in gallery.facts.value
    found.filters["name"].value = "no such name"
    assert len(browser.face_browser(faces, runs[0], split="test", true="fear").gallery.rows) == 6
    assert "No face fits" in gallery.where.value and all(tile.row == -1 for tile in gallery.tiles)


def test_a_click_waits_while_another_is_answered(faces, runs, workshop):
    """JupyterLab may answer a click in one thread while a cell, or another click, is at it in another."""
    found, slider = browser.face_browser(faces, runs[0]), workshop.units[12]
    gallery, image = found.gallery, workshop.image
    clicks = [(gallery.lock, gallery.forth.click, lambda: gallery.page == 1),
              (gallery.lock, gallery.tiles[1].button.click, lambda: gallery.chosen >= 0),
              (found.lock, lambda: setattr(found.filters["split"], "value", "test"), lambda: len(gallery.rows) == 36),
              (workshop.lock, lambda: setattr(slider, "value", 1 - slider.value), lambda: workshop.image is not image)]
    for lock, click, done in clicks:
        with lock:
            clicking = threading.Thread(target=click)
            clicking.start()
            clicking.join(0.3)
            assert clicking.is_alive() and not done()
        clicking.join(10)
        assert done()


def test_attribution_and_neighbours_of_the_clicked_face(faces, runs):
    gallery = browser.face_browser(faces, runs[0]).gallery
    gallery.select(5)
    gallery.method.value = gallery.method.options[1]
    gallery.background.wait()
    assert pixels(gallery.map).shape == (48, 48, 3) and "red speaks for" in gallery.state.value
    gallery.method.value = "none"
    gallery.background.wait()
    gallery.near.click()
    gallery.search.wait()
    near = [tile.row for tile in gallery.neighbours]
    assert len(set(near)) == 8 and 5 not in near and -1 not in near
    model = runs[0].model()
    embedded = browser.Gallery(gallery.faces, gallery.table, runs[0], "")._embedded()[1]
    distance = np.linalg.norm(embedded - embedded[5], axis=1)
    assert near == np.argsort(distance, kind="stable")[1:9].tolist() and not model.training


def test_a_network_answers_every_image_on_demand(faces, runs, store):
    network = loading.load_network(runs[0].name, store)
    found = browser.face_browser(faces, network)
    assert (found.gallery.table["predicted"] == "").all()
    found.ask.click()
    found.work.wait()
    stored = browser.face_table(found.gallery.faces, runs[0]).query("split == 'test'")
    assert (found.gallery.table.loc[stored.index, "predicted"] == stored["predicted"]).all()
    assert f"{len(found.gallery.faces):,} images answered" in found.note.value


def test_a_cell_of_the_confusion_matrix_opens_its_images(faces, runs):
    found = browser.confusion_browser(runs[0], faces)
    scores = runs[0].metrics["test"]
    true, answer = max(((t, a) for t in scores.classes for a in scores.classes if t != a),
                       key=lambda pair: scores.confusion[tuple(map(scores.classes.index, pair))])
    count = scores.confusion[scores.classes.index(true), scores.classes.index(answer)]
    found.cells[true, answer].click()
    opened = found.gallery.table.iloc[found.gallery.rows]
    assert len(opened) == count > 0 and set(opened["split"]) == {"test"}
    assert set(opened["true"]) == {true} and set(opened["predicted"]) == {answer}
    assert f"<b>{true}</b> called <b>{answer}</b>" in found.title.value
    assert f"· {count:,}" in found.cells[true, answer].description


# --- the studio


@pytest.fixture(scope="module")
def workshop():
    return face_editor.face_studio()


def test_every_parameter_of_a_drawn_face_has_one_slider(workshop):
    fields = {field.name for field in dataclasses.fields(workshop.params())} - {"action_units", "seed"}
    assert set(workshop.settings) == set(RANGES) == fields
    assert sorted(name for names in face_editor.GROUPS.values() for name in names) == sorted(RANGES)


def test_the_average_face_and_other_people_stand_on_whole_steps_of_the_sliders(workshop):
    """JupyterLab moves a value between two steps to the nearer one."""
    def between():
        sliders = [slider for name, slider in workshop.settings.items() if name != "occluder"]
        steps = [(slider.value - slider.min) / slider.step for slider in sliders]
        assert all(90 < (slider.max - slider.min) / slider.step < 130 for slider in sliders)
        return np.abs(np.array(steps) - np.round(steps)).max()

    workshop.start_over()
    assert {name: slider.value for name, slider in workshop.settings.items()} == {
        name: middle for name, (_, middle, _) in RANGES.items()} and between() < 1e-9
    workshop.meet()
    assert between() < 1e-9


def test_a_slider_redraws_the_face_and_asks_the_network_again(workshop):
    workshop.start_over()
    image, probs = workshop.image, workshop.probs
    workshop.units[12].value = 1.0
    assert not torch.equal(workshop.image, image) and workshop.probs != probs
    assert np.array_equal(pixels(workshop.picture), workshop.image.numpy())
    expected = pretrained.probabilities(workshop.network, workshop.image[None])[0]
    assert [*workshop.probs.values()] == pytest.approx(expected.tolist()) and sum(expected) == pytest.approx(1)
    workshop.start_over()
    assert torch.equal(workshop.image, image)


def test_a_preset_shows_the_prototype_and_another_person_keeps_it(workshop):
    workshop.express("happiness")
    smile = {unit: slider.value for unit, slider in workshop.units.items()}
    assert smile[12] == 1 and smile[4] == 0
    image = workshop.image
    workshop.meet()
    assert {unit: slider.value for unit, slider in workshop.units.items()} == smile
    assert not torch.equal(workshop.image, image)


# --- the monitor and the comparer


def test_the_monitor_trains_in_a_process_of_its_own_and_the_run_is_the_usual_one(faces, tmp_path):
    watching = monitor.training_monitor(TINY, faces, tmp_path / "watched")
    assert watching.status.value == "Not trained yet."
    watching.train.click()
    progress = watching.wait(120)
    assert progress.finished and len(progress.history) == TINY.epochs
    assert watching.status.value.startswith("Finished after 2 epochs. Best:") and "<svg" in watching.curves.value
    assert watching.bar.value == TINY.epochs and watching.train.disabled
    usual = train_run(TINY, faces, tmp_path / "usual", progress=False)
    assert progress.history.drop(columns="seconds").equals(usual.history.drop(columns="seconds"))


def test_the_monitor_follows_a_run_that_another_trains(faces, tmp_path):
    watching = monitor.training_monitor(TINY, faces, tmp_path)
    watching.follow.click()
    until(lambda: "Following: epoch 1 of 2" in watching.status.value)
    train_run(TINY, faces, tmp_path, progress=False)
    assert watching.wait(30).finished


@pytest.mark.nightly
def test_a_training_that_the_kernel_s_interrupt_reaches_says_how_far_it_has_come(faces, tmp_path):
    watching = monitor.training_monitor(dataclasses.replace(TINY, epochs=200), faces, tmp_path)
    watching.train.click()
    until(lambda: len(watching.progress.history))
    os.kill(watching._process.pid, signal.SIGINT)
    assert not watching.wait(60).finished
    assert re.match(r"\d+ of 200 epochs are done; train to go on", watching.status.value)


def test_a_stopped_training_goes_on_and_a_failed_one_says_why(faces, tmp_path):
    config = dataclasses.replace(TINY, epochs=200)
    watching = monitor.training_monitor(config, faces, tmp_path)
    watching.train.click()
    until(lambda: len(watching.progress.history))
    watching.stop.click()
    done = len(watching.progress.history)
    assert 0 < done < 200 and "epochs are done; train to go on" in watching.status.value
    assert len(monitor.training_monitor(config, faces, tmp_path).progress.history) == done
    rest = faces.take(np.flatnonzero((faces.labels.numpy() != EMOTIONS.index("fear")) | (faces.split == "test")))
    monitor._train(pickle.dumps((TINY, rest, tmp_path)))  # as the process would that the button starts
    failing = monitor.training_monitor(TINY, rest, tmp_path)
    assert "fear" in failing.progress.error and failing.status.value.startswith("Failed:")


def test_two_runs_are_compared_by_settings_scores_and_images(runs, store):
    both = comparer.run_comparer(store)
    names = [run.name for run in runs]
    both.first.value, both.second.value = names
    assert "the first is right more often by" in both.sentence.value and "McNemar p" in both.sentence.value
    assert "lr" in both.settings.value and "0.003" in both.settings.value and "seed" not in both.settings.value
    assert runs[0].metrics["test"].accuracy.percent in both.scores.value and "recall of fear" in both.scores.value
    assert "<svg" in both.curves.value
    both.second.value = names[0]
    assert both.settings.value == "The same settings."


def test_a_store_without_runs_is_an_error(tmp_path):
    with pytest.raises(FerError, match="no finished run to compare"):
        comparer.run_comparer(tmp_path)


# --- where no kernel runs


def test_each_explorer_carries_a_figure_and_where_somebody_watches_also_itself(faces, runs, store, workshop):
    for explorer in (browser.face_browser(faces, runs[0]), browser.confusion_browser(runs[0], faces), workshop,
                     monitor.training_monitor(TINY, faces, store), comparer.run_comparer(store)):
        bundle = explorer._repr_mimebundle_()
        assert "application/vnd.jupyter.widget-view+json" in bundle and len(bundle["text/plain"]) > 20
        picture = Image.open(io.BytesIO(base64.b64decode(bundle["image/png"])))
        assert min(picture.size) > 150 and len(np.unique(np.asarray(picture.convert("L")))) > 10


def test_a_notebook_executed_in_bulk_keeps_the_figure_alone(store, runs):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(
        f"from fer_helpers.widgets.comparer import run_comparer\nrun_comparer({str(store)!r})")])
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    data, = [output.data for output in notebook.cells[0].outputs if "data" in output]
    assert set(data) == {"text/plain", "image/png"}


def test_only_the_newest_job_in_the_background_shows_its_result():
    work, shown, gate = base.Background(), [], threading.Event()
    work.start(lambda: gate.wait(10), lambda _: shown.append("old"), shown.append)
    work.start(lambda: "new", shown.append, shown.append)
    gate.set()
    work.wait()
    assert shown == ["new"]
    work.start(lambda: 1 / 0, shown.append, lambda why: shown.append(f"failed: {why}"))
    work.wait()
    assert shown[-1] == "failed: division by zero"


def test_bars_and_curves_escape_names_and_bear_gaps():
    assert "&lt;b&gt;" in base.bars({"<b>": 0.5}) and "width:50.0%" in base.bars({"x": 0.5})
    drawn = base.curves("<loss>", {"train": ([1.0, np.nan, 0.5], "red")}, 5)
    assert "aria-label='&lt;loss&gt;'" in drawn and "nan" not in drawn
    curve, = (part for part in ElementTree.fromstring(drawn).iter() if part.get("id") == "<loss>: train")
    assert len([part for part in curve.iter() if part.tag.endswith("use")]) == 2
    assert "currentColor" in drawn and base._TEXT not in drawn  # text in the colour of the page, dark or light
    assert "<svg" in base.curves("empty", {"train": (pd.Series(dtype=float), "red")}, 1)
