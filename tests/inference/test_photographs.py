"""A photograph, a folder and a film are answered, in Python and by ``fer predict``; an unsure answer says so."""

import csv
import dataclasses
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import easy_faces, fer_here, texts
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from skimage.data import astronaut
from typer.testing import CliRunner

import fer_helpers
from fer_helpers.cli import app
from fer_helpers.data.emotions import CLASS_SETS
from fer_helpers.data.readers import load_faces
from fer_helpers.files import FerError
from fer_helpers.inference import photographs
from fer_helpers.inference.loading import load_network
from fer_helpers.inference.photographs import annotate, find_pictures, frames, predict, save_annotated
from fer_helpers.inference.pretrained import load_pretrained
from fer_helpers.training.config import TrainConfig
from fer_helpers.training.runs import train_run


@pytest.fixture(scope="module")
def portrait(tmp_path_factory):
    path = tmp_path_factory.mktemp("album") / "astronaut.png"
    Image.fromarray(astronaut()).save(path)
    return path


def with_threshold(threshold):
    shipped = load_pretrained()
    return dataclasses.replace(shipped, calibration=dataclasses.replace(shipped.calibration, threshold=threshold))


def test_the_astronaut_is_called_happy(portrait):
    (one,) = fer_helpers.predict(portrait)
    assert one.answer == one.emotion == "happiness" and one.confidence > 0.8
    assert sum(one.probs.values()) == pytest.approx(1) and tuple(one.probs) == CLASS_SETS[7]


def test_a_picture_answers_like_its_file(portrait):
    assert predict(astronaut())[0].to_dict() == predict(portrait)[0].to_dict()


def test_below_the_threshold_the_answer_is_unsure_and_the_most_probable_is_still_told(portrait):
    (one,) = predict(portrait, with_threshold(0.999))
    assert one.answer == "unsure" and one.emotion == "happiness" and not one.sure
    assert predict(portrait, with_threshold(one.confidence))[0].sure  # at the threshold it is sure


def test_the_temperature_changes_the_confidence_not_the_answer(portrait):
    shipped = load_pretrained()
    warm = dataclasses.replace(shipped, calibration=dataclasses.replace(shipped.calibration, temperature=3.0))
    (plain,), (warmer,) = predict(portrait), predict(portrait, warm)
    assert warmer.confidence < plain.confidence and warmer.emotion == plain.emotion


@given(st.lists(st.floats(0.001, 1), min_size=2, max_size=8))
def test_ten_people_are_ten_whatever_the_shares(values):
    shares = {str(number): value / sum(values) for number, value in enumerate(values)}
    votes = photographs.ten_people(shares)
    assert sum(votes.values()) == 10 and min(votes.values()) > 0
    assert list(votes.values()) == sorted(votes.values(), reverse=True)
    assert all(abs(votes.get(name, 0) - 10 * share) < 1 for name, share in shares.items())


def test_a_network_that_learned_votes_tells_them(tmp_path, portrait):
    config = TrainConfig(arch="mobile", classes=3, votes=1.0, epochs=1, batch_size=16)
    run = train_run(config, easy_faces(votes=True), tmp_path, progress=False)
    network = load_network(run.name, tmp_path)
    (one,) = predict(portrait, network)
    assert tuple(one.votes) == CLASS_SETS[3] and sum(one.votes.values()) == pytest.approx(1)
    assert set(one.to_dict()["votes"]) == set(CLASS_SETS[3])
    assert predict(portrait, dataclasses.replace(network, calibration=dataclasses.replace(
        network.calibration, vote_temperature=9.0)))[0].votes != one.votes
    said = fer_here("predict", portrait, "--run", run.folder, cwd=tmp_path).stdout
    assert "of ten people would say" in said
    table = csv.DictReader(io.StringIO(fer_here("predict", portrait, "--run", run.folder, "--format", "csv",
                                                cwd=tmp_path).stdout))
    assert float(next(table)["votes_fear"]) == pytest.approx(one.votes["fear"], abs=1e-3)


def test_a_shipped_network_is_chosen_by_its_name(portrait, tmp_path):
    small, best = load_network("small"), load_network("best")
    assert load_network().config == small.config == load_pretrained().config
    said = fer_here("predict", portrait, "--network", "best", "--format", "json", cwd=tmp_path)
    assert json.loads(said.stdout)["faces"][0]["probabilities"] == predict(portrait, best)[0].to_dict()["probabilities"]
    both = fer_here("predict", portrait, "--network", "best", "--run", "mine", cwd=tmp_path)
    assert both.exit_code == 1 and "--network best and --run mine name two networks; give one" in str(both.exception)


def test_a_photograph_without_a_face_has_no_answer():
    assert predict(np.zeros((100, 100, 3), np.uint8)) == []


def test_a_run_answers_for_its_own_classes(tmp_path, portrait):
    run = train_run(TrainConfig(arch="compact", classes=3, epochs=1, batch_size=16), easy_faces(), tmp_path,
                    progress=False)
    network = load_network(run.name, tmp_path)
    (one,) = predict(portrait, network)
    assert tuple(one.probs) == CLASS_SETS[3]
    assert network.calibration.images == len(run.predictions.query("split == 'val'"))
    assert load_network(str(run.folder)).calibration == network.calibration


def test_a_run_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FerError, match="nobody: is no finished run; fer runs lists them"):
        load_network("nobody", tmp_path)


def test_the_annotated_picture_names_every_face_and_what_it_does_not_mean(figure_style):
    photograph = np.concatenate([astronaut()[:300, 100:400]] * 2, axis=1)
    found = predict(photograph)
    shown = texts(annotate(photograph, found, load_pretrained()))
    assert {"2 faces found", " 1 happiness ", " 2 happiness ", photographs.MEANING} <= set(shown)
    unsure = [dataclasses.replace(one, sure=False) for one in found[:1]]
    assert " 1 unsure " in texts(annotate(photograph, unsure))
    assert "0 faces found" in texts(annotate(photograph, []))


def test_only_the_largest_faces_are_drawn_beside_the_picture(figure_style):
    one = predict(astronaut())[0]
    assert "8 faces found, the 6 largest shown" in texts(annotate(astronaut(), [one] * 8))


def test_a_folder_gives_its_pictures_and_films_in_order(tmp_path):
    for name in ("b.PNG", "a.jpg", "notes.txt", "deep/c.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [path.name for path in find_pictures([tmp_path])] == ["a.jpg", "b.PNG", "c.mp4"]
    with pytest.raises(FerError, match="holds no picture"):
        (tmp_path / "empty").mkdir()
        find_pictures([tmp_path / "empty"])
    with pytest.raises(FerError, match="nowhere.png: does not exist"):
        find_pictures(["nowhere.png"])


@pytest.fixture
def film(tmp_path):
    """Three seconds of the astronaut at five frames a second, each second a little darker."""
    import cv2

    path = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 5, (300, 300))
    for number in range(15):
        picture = (astronaut()[:300, 100:400] * (1 - number // 5 / 4)).astype(np.uint8)
        writer.write(np.ascontiguousarray(picture[..., ::-1]))
    writer.release()
    return path


def test_a_film_is_looked_at_every_so_often_in_its_own_colours(film):
    shown = list(frames(film, 1.0))
    assert [seconds for seconds, _ in shown] == pytest.approx([0, 1, 2])
    for number, (_, picture) in enumerate(shown):
        expected = astronaut()[:300, 100:400].mean((0, 1)) * (1 - number / 4)
        np.testing.assert_allclose(picture.mean((0, 1)), expected, atol=3)
    assert len(list(frames(film, 0))) == 15


def test_a_damaged_film_and_a_damaged_picture_are_named(tmp_path):
    for name, message in (("x.mp4", "is no readable film"), ("x.png", "is no readable image")):
        (tmp_path / name).write_bytes(b"nothing of the kind")
        with pytest.raises(FerError, match=f"{name}: {message}"):
            list(frames(tmp_path / name))


def test_the_command_prints_json_and_csv_that_agree(portrait, film):
    run = CliRunner().invoke
    lines = [json.loads(line) for line in run(app, ["predict", str(portrait), str(film), "--format", "json"])
             .stdout.splitlines()]
    rows = list(csv.DictReader(io.StringIO(run(app, ["predict", str(portrait), str(film), "--format", "csv"]).stdout)))
    assert [line.get("seconds") for line in lines] == [None, 0, 1, 2]
    assert [row["answer"] for row in rows] == [face["answer"] for line in lines for face in line["faces"]]
    assert [float(row["happiness"]) for row in rows] == [face["probabilities"]["happiness"] for line in lines
                                                       for face in line["faces"]]
    assert [row["track"] for row in rows] == [str(face.get("track", "")) for line in lines for face in line["faces"]]


def test_a_look_without_a_face_has_its_row_in_csv(tmp_path):
    for name in ("empty.png", "wall.jpg"):
        Image.fromarray(np.full((200, 200, 3), 90, np.uint8)).save(tmp_path / name)
    done = CliRunner().invoke(app, ["predict", str(tmp_path), "--format", "csv"])
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [Path(row["file"]).name for row in rows] == ["empty.png", "wall.jpg"]
    assert {row["face"] for row in rows} == {row["answer"] for row in rows} == {""}


def test_the_command_tells_what_it_saw_what_it_does_not_mean_and_keeps_a_picture(portrait, tmp_path):
    result = CliRunner().invoke(app, ["predict", str(portrait), "--out", str(tmp_path)])
    assert result.exit_code == 0 and "1 face found" in result.stdout and "1. happiness" in result.stdout
    assert photographs.MEANING in result.stderr
    assert Image.open(tmp_path / "astronaut.png.fer.png").width > 800


def pixels(path):
    return np.asarray(Image.open(path)).tobytes()


@pytest.fixture
def album(tmp_path):
    """Photographs of equal names: no face, and quickly answered. Each is of another shade."""
    for shade, name in enumerate(("x.png", "x.jpg", "a/x.jpg", "b/x.jpg")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((60, 60, 3), 50 * shade, np.uint8)).save(tmp_path / name)
    return tmp_path


def test_drawings_in_the_folder_of_the_photographs_replace_none_and_are_no_photographs(album):
    photographs = {path: path.read_bytes() for path in album.rglob("*.*")}
    for _ in range(2):
        result = fer_here("predict", ".", "--out", ".", "--format", "json", cwd=album)
        assert [json.loads(line)["file"] for line in result.stdout.splitlines()] == ["a/x.jpg", "b/x.jpg", "x.jpg",
                                                                                     "x.png"]
        drawings = {f"{path.relative_to(album)}.fer.png" for path in photographs}
        assert {str(path.relative_to(album)) for path in album.rglob("*.fer.png")} == drawings
        assert len({pixels(album / name) for name in drawings}) == 4
    assert all(path.read_bytes() == before for path, before in photographs.items())


@pytest.mark.parametrize("given", [["a", "b"], ["a/x.jpg", "b/x.jpg"], ["a", "b/x.jpg", "a/x.jpg"]])
def test_drawings_of_several_inputs_lie_as_the_photographs_do(album, given):
    assert fer_here("predict", *given, "--out", "out", cwd=album).exit_code == 0
    assert sorted(str(path.relative_to(album / "out")) for path in (album / "out").rglob("*.png")) == [
        "a/x.jpg.fer.png", "b/x.jpg.fer.png"]


def test_a_drawing_replaces_an_older_one_of_the_same_photograph_and_nothing_else(album):
    for folder in ("a", "b", "a"):
        assert fer_here("predict", folder, "--out", "out", cwd=album).exit_code == 0
    first, second = (album / "out" / name for name in ("x.jpg.fer.png", "x.jpg-2.fer.png"))
    assert sorted((album / "out").iterdir()) == sorted([first, second]) and pixels(first) != pixels(second)
    for taken in ("x.png.fer.png", "x.jpg.fer.png"):  # somebody's own file, and a drawing that is itself asked about
        shutil.copy(album / "x.png" if taken.startswith("x.png") else first, album / taken)
    before = {path: path.read_bytes() for path in album.glob("x.*")}
    assert fer_here("predict", "x.png", "x.jpg", "x.jpg.fer.png", "--out", ".", cwd=album).exit_code == 0
    assert all(path.read_bytes() == content for path, content in before.items())
    assert {"x.png-2.fer.png", "x.jpg-2.fer.png", "x.jpg.fer.png.fer.png"} == {
        path.name for path in album.glob("x.*") if path not in before}


@pytest.mark.slow
def test_several_processes_answer_as_one_does(album):
    (album / "broken.jpg").write_bytes(b"no picture")
    Image.fromarray(astronaut()).save(album / "b" / "face.png")
    one, two = (fer_here("predict", ".", "--format", "csv", "--out", f"out{jobs}", "--jobs", str(jobs), cwd=album)
                for jobs in (1, 2))
    assert one.exit_code == two.exit_code == 1 and "broken.jpg" in two.stderr
    assert (one.stdout, one.stderr) == (two.stdout, two.stderr) and len(one.stdout.splitlines()) == 6
    first, second = ({path.relative_to(out): pixels(path) for path in out.rglob("*.png")}
                     for out in (album / "out1", album / "out2"))
    assert first == second and len(first) == 5


def test_frames_of_films_have_names_of_their_own_to_the_millisecond(film):
    shutil.copy(film, film.with_name("other.avi"))
    assert fer_here("predict", ".", "--every", "1.2", "--out", "out", cwd=film.parent).exit_code == 0
    assert sorted(path.name for path in (film.parent / "out").iterdir()) == [
        f"{name}.avi-{seconds:09.3f}s.fer.png" for name in ("film", "other") for seconds in (0, 1.2, 2.4)]


def test_a_broken_picture_costs_the_others_nothing(portrait, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    Image.open(portrait).save(tmp_path / "whole.png")
    result = CliRunner().invoke(app, ["predict", str(tmp_path), "--format", "json"])
    assert result.exit_code == 1 and "broken.png: is no readable image" in result.stderr
    assert [json.loads(line)["file"] for line in result.stdout.splitlines()] == [str(tmp_path / "whole.png")]


def test_a_picture_is_kept_whole_or_not_at_all(full_disk):
    with pytest.raises(FerError, match="free some space"):
        save_annotated(full_disk / "out.png", astronaut(), predict(astronaut()))
    assert list(full_disk.iterdir()) == []


@pytest.mark.parametrize("shape", [(48, 48), (224, 224), (100, 120)])
def test_a_cropped_face_is_answered_as_data_sets_are_read_and_its_box_is_the_whole_picture(shape, tmp_path):
    face = Image.fromarray(astronaut()[50:170, 160:280]).convert("L").resize(shape[::-1])
    place = tmp_path / "faces" / "test" / "happiness"
    place.mkdir(parents=True)
    face.save(place / "a.png")
    (one,) = predict(place / "a.png", cropped=True)
    assert torch.equal(one.face.crop, load_faces(tmp_path / "faces").images[0])
    done = fer_here("predict", place, "--faces", "cropped", "--format", "csv", cwd=tmp_path)
    (row,) = csv.DictReader(io.StringIO(done.stdout))
    assert [float(row[side]) for side in ("left", "top", "right", "bottom")] == [0, 0, shape[1], shape[0]]
    assert row["answer"] == one.answer and row["detection_score"] == ""
    done = fer_here("predict", place, "--faces", "cropped", "--format", "json", "--out", tmp_path / "out", cwd=tmp_path)
    assert json.loads(done.stdout)["faces"] == [one.to_dict()] and (tmp_path / "out" / "a.png.fer.png").exists()


@pytest.mark.parametrize(("shape", "hints"), [((48, 48), 1), ((224, 224), 1), ((100, 200), 0), ((400, 400), 0)])
def test_a_small_square_picture_without_a_face_brings_one_hint(shape, hints, tmp_path):
    for name in "ab":
        Image.fromarray(np.zeros(shape, np.uint8)).save(tmp_path / f"{name}.png")
    done = fer_here("predict", tmp_path, cwd=tmp_path)
    assert done.stderr.count("hint: ") == done.stderr.count("--faces cropped") == hints and done.exit_code == 0
    assert "hint" not in fer_here("predict", tmp_path, "--faces", "cropped", cwd=tmp_path).stderr
