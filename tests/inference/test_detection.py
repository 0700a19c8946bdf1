"""Faces are found on a photograph that nobody here drew, and laid on the eyes that the networks know."""

import itertools
import sys

import numpy as np
import pytest
import torch
from corpus import faces_of, png, votes_text
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from skimage.data import astronaut, coffee
from torchvision.ops import box_iou, nms
from typer.testing import CliRunner

from fer_helpers.cli import app
from fer_helpers.data.faceset import FaceSet
from fer_helpers.data.readers import load_faces
from fer_helpers.files import FerError
from fer_helpers.inference import detection
from fer_helpers.inference.detection import DETECTORS, EYES, align_faces, crop_face, find_faces

SEEN_EYES = ((204, 101), (247, 103))  # of the astronaut, by eye


@pytest.mark.parametrize("detector", DETECTORS)
@pytest.mark.parametrize("grey", [False, True])
def test_the_astronaut_has_one_face_and_her_eyes_lie_in_it(detector, grey):
    photograph = astronaut()
    (face,) = find_faces(photograph.mean(2).astype(np.uint8) if grey else photograph, detector)
    left, top, right, bottom = face.box
    assert all(left < x < right and top < y < bottom for x, y in SEEN_EYES)
    assert 80 < right - left < 130 and 100 < bottom - top < 140
    assert face.crop.shape == (48, 48) and face.crop.dtype == torch.uint8
    if detector == "retinaface":
        np.testing.assert_allclose(face.eyes, SEEN_EYES, atol=3)
        assert face.score > 0.9
    else:
        assert face.eyes is None and np.isnan(face.score)


def test_both_detectors_lead_to_much_the_same_crop():
    first, second = (find_faces(astronaut(), detector)[0].crop.flatten().numpy() for detector in DETECTORS)
    assert np.corrcoef(first, second)[0, 1] > 0.75


@pytest.mark.parametrize("side", [48, 100, 1500])
def test_a_face_is_found_where_it_is_whatever_the_size_of_its_picture(side):
    portrait = torch.from_numpy(astronaut()[40:200, 150:310].copy()).permute(2, 0, 1)[None].float()
    photograph = torch.nn.functional.interpolate(portrait, (side, side), mode="bilinear", antialias=True)
    (face,) = find_faces(photograph[0].permute(1, 2, 0).byte().numpy(), "retinaface")
    expected = (np.array(SEEN_EYES) - (150, 40)) * side / 160
    np.testing.assert_allclose(face.eyes, expected, atol=4 * side / 160)


def test_several_faces_come_largest_first():
    half = astronaut()[:300:2, 100:400:2]
    photograph = np.concatenate([np.pad(half, ((0, 150), (0, 0), (0, 0))), astronaut()[:300, 100:400]], axis=1)
    large, small = find_faces(photograph, "retinaface")
    assert large.box[0] > half.shape[1] > small.box[2]


@pytest.mark.parametrize("detector", DETECTORS)
def test_no_face_is_an_empty_list(detector):
    assert find_faces(np.full((64, 300, 3), 128, np.uint8), detector) == []
    assert find_faces(np.zeros((1, 1), np.uint8), detector) == []


@given(angle=st.floats(-60, 60), side=st.floats(20, 400), x=st.floats(250, 350), y=st.floats(250, 350))
def test_a_crop_shows_the_eyes_at_their_place_however_the_face_is_turned(angle, side, x, y):
    """Two blurred dots stand for the eyes: where they were is where they must come to lie."""
    along = np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))]) * side / 2
    eyes = np.array([(x, y) - along, (x, y) + along])
    rows, columns = np.mgrid[:600, :600] + 0.5
    width = side / 17 * 1.5
    picture = sum(np.exp(-((columns - a) ** 2 + (rows - b) ** 2) / (2 * width ** 2)) for a, b in eyes)
    crop = crop_face(torch.from_numpy((255 * picture.clip(0, 1)).astype(np.uint8)), eyes).double()
    for (a, b), half in zip(EYES, (slice(0, 24), slice(25, 48)), strict=True):
        weight = crop[:, half]
        columns, rows = torch.arange(48)[half] + 0.5, torch.arange(48) + 0.5
        assert float((weight.sum(0) * columns).sum() / weight.sum()) == pytest.approx(a, abs=0.4)
        assert float((weight.sum(1) * rows).sum() / weight.sum()) == pytest.approx(b, abs=0.4)


def test_a_crop_of_a_large_face_averages_instead_of_picking_pixels():
    fine = torch.zeros(960, 960, dtype=torch.uint8)
    fine[::2] = 255  # lines one pixel wide: picked, they would come out black or white
    crop = crop_face(fine, tuple((20 * a, 20 * b) for a, b in EYES))
    assert crop.float().sub(127.5).abs().max() < 2


def test_beyond_the_edge_the_last_pixels_go_on():
    crop = crop_face(torch.full((20, 20), 77, dtype=torch.uint8), EYES)
    assert (crop == 77).all()


def test_eyes_of_a_face_in_profile_are_no_measure():
    box = (100.0, 100.0, 180.0, 200.0)
    frontal = detection._place(box, None)
    assert detection._place(box, ((120.0, 140.0), (124.0, 140.0))) == frontal
    near = ((125.0, 140.0), (158.0, 142.0))
    assert detection._place(box, near) == near


def portraits(turns, side=48):
    """The astronaut's face, turned by so many degrees around its middle, as a set of one face each."""
    images = []
    for turn in turns:
        middle, radius = complex(226, 120), 70
        rotated = np.exp(1j * np.radians(turn))
        eyes = [middle + rotated * (complex(*eye) - complex(24, 24)) * radius / 24 for eye in EYES]
        grey = torch.from_numpy(detection._grey(astronaut()))
        images.append(crop_face(grey, tuple((eye.real, eye.imag) for eye in eyes)))
    count = len(images)
    return FaceSet(torch.stack(images), torch.arange(count) % 2, np.array([f"turned{turn}" for turn in turns]),
                   np.array((["train", "test"] * count)[:count]), ("anger", "fear"))


def test_aligned_faces_have_their_eyes_where_the_networks_know_them(tmp_path):
    faces = portraits((-20, 0, 25, 10))
    blank = FaceSet(torch.full((1, 48, 48), 90, dtype=torch.uint8), torch.tensor([1]), np.array(["blank"]),
                    np.array(["train"]), faces.classes)
    both = FaceSet(torch.cat([faces.images, blank.images]), torch.cat([faces.labels, blank.labels]),
                   np.concatenate([faces.ids, blank.ids]), np.concatenate([faces.split, blank.split]), faces.classes)
    assert align_faces(both, tmp_path / "aligned", progress=False) == 4
    found = load_faces(tmp_path / "aligned", cache=False)
    assert sorted(found.ids) == sorted(both.ids)
    for image, name, split, label in zip(found.images, found.ids, found.split, found.labels, strict=True):
        row = list(both.ids).index(name)
        assert split == both.split[row] and found.classes[label] == both.classes[both.labels[row]]
        if name == "blank":
            assert (image == 90).all()
        else:
            seen = find_faces(image.numpy(), "retinaface")[0].eyes
            np.testing.assert_allclose(seen, EYES, atol=2)  # a turn by 25° alone moves them by four


@pytest.mark.parametrize("place", ["faces/{number}.png", "{split}/{name}/{person}/face.png"], ids=["table", "folders"])
def test_alignment_keeps_the_persons_that_a_table_or_folders_told(place, tmp_path):
    kinds = itertools.product(("train", "test"), ("anger", "fear"), ("ann", "bob", "eve"))
    table = ["path,label,split,subject"]
    for number, (split, name, person) in enumerate(kinds):
        path = tmp_path / "raw" / place.format(number=number, split=split, name=name, person=person)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(faces_of(1, number)[0]))
        table.append(f"{path.relative_to(tmp_path / 'raw')},{name},{split},{person}")
    if place.startswith("faces"):
        (tmp_path / "raw" / "labels.csv").write_text("\n".join(table))
    raw = load_faces(tmp_path / "raw", cache=False)
    align_faces(raw, tmp_path / "aligned", progress=False)  # noise has no eyes: the same pixels come back
    found = load_faces(tmp_path / "aligned", cache=False)
    before, after = (sorted((image.numpy().tobytes(), split, faces.classes[label], who) for image, split, label, who
                            in zip(faces.images, faces.split, faces.labels, faces.subjects, strict=True))
                     for faces in (raw, found))
    assert before == after and len(set(raw.subjects)) == 3


def test_alignment_writes_nothing_half_and_over_nothing(tmp_path):
    faces = portraits((0, 5))
    with pytest.raises(FerError, match="finds no eyes"):
        align_faces(faces, tmp_path / "new", "cascade", progress=False)
    (tmp_path / "old").mkdir()
    with pytest.raises(FerError, match="old: already exists"):
        align_faces(faces, tmp_path / "old", progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def test_the_command_aligns_a_folder_and_keeps_the_votes_beside_it(tmp_path):
    align_faces(portraits((0, 5, 9, -9)), tmp_path / "raw", progress=False)
    (tmp_path / "raw" / "fer2013new.csv").write_text("not read here")
    result = CliRunner().invoke(app, ["data", "align", str(tmp_path / "raw"), str(tmp_path / "aligned")])
    assert result.exit_code == 2 or "fer2013new.csv" in str(result.exception)  # a votes table that is none is refused
    (tmp_path / "raw" / "fer2013new.csv").write_text(votes_text([f"turned{turn}.png" for turn in (0, 5, 9, -9)]))
    result = CliRunner().invoke(app, ["data", "align", str(tmp_path / "raw"), str(tmp_path / "aligned")])
    assert result.exit_code == 0, result.output
    assert "4 of 4" in result.stdout
    assert load_faces(tmp_path / "aligned", cache=False).votes is not None


@pytest.mark.parametrize("wrong", [np.zeros((5, 5, 3)), np.zeros(5, np.uint8), np.zeros((5, 5, 4), np.uint8)])
def test_what_is_no_picture_is_refused(wrong):
    with pytest.raises(FerError, match="give uint8"):
        find_faces(wrong)


def test_an_empty_picture_and_an_unknown_detector_are_refused():
    with pytest.raises(FerError, match="has no pixel"):
        find_faces(np.zeros((0, 5, 3), np.uint8))
    with pytest.raises(FerError, match="choose one of retinaface, cascade or auto"):
        find_faces(astronaut(), "haar")


@pytest.mark.parametrize("library", ["libGL.so.1", "libgthread-2.0.so.0"])
def test_opencv_without_a_library_of_the_system_is_one_line_with_the_cure(library, tmp_path, monkeypatch):
    (tmp_path / "cv2").mkdir()
    reason = f"{library}: cannot open shared object file: No such file or directory"
    (tmp_path / "cv2" / "__init__.py").write_text(f"raise ImportError({reason!r})")
    for name in [name for name in sys.modules if name.partition(".")[0] in ("cv2", "retinaface")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    detection._load_retinaface.cache_clear()
    for number in range(3):
        Image.fromarray(astronaut()).save(tmp_path / f"{number}.png")
    result = CliRunner().invoke(app, ["predict", *(str(tmp_path / f"{number}.png") for number in range(3))])
    assert isinstance(result.exception, FerError) and result.output == ""  # the command prints it, once for all three
    assert f"cannot be loaded ({reason})" in str(result.exception)
    assert "pip install opencv-python-headless" in str(result.exception) and "fer_helpers[" not in str(result.exception)
    assert find_faces(astronaut(), "cascade")  # which needs none


@pytest.mark.slow
@pytest.mark.parametrize(("width", "face"), [
    pytest.param(6000, 100, marks=pytest.mark.nightly), (3000, 80), (1500, 60)])
def test_small_faces_of_a_large_photograph_are_found_once_each(width, face):
    pytest.importorskip("retinaface")
    head = Image.fromarray(astronaut()).crop((120, 0, 330, 260))  # its face is 101 pixels wide
    head = head.resize((210 * face // 101, 260 * face // 101))
    picture = Image.fromarray(coffee()).resize((width, width * 2 // 3))
    places = [((2 * column + 1) * width // 8, (2 * row + 1) * width // 9) for row in range(3) for column in range(4)]
    for x, y in places:
        picture.paste(head, (x - head.width // 2, y - head.height // 2))
    faces = find_faces(np.asarray(picture), "retinaface")
    centres = {((one.box[0] + one.box[2]) / 2, (one.box[1] + one.box[3]) / 2) for one in faces}
    missed = [place for place in places if min(np.hypot(*np.subtract(place, centre)) for centre in centres) > face]
    assert len(missed) <= (0 if face >= 80 else 2) and len(faces) == len(places) - len(missed)
    assert np.mean([one.box[2] - one.box[0] for one in faces]) == pytest.approx(face, rel=0.2)


@pytest.mark.parametrize(("tall", "top"), [(400, 520), (430, 600)])
def test_what_a_tile_shows_of_a_face_that_its_edge_cuts_is_no_face(tall, top):
    pytest.importorskip("retinaface")
    head = Image.fromarray(astronaut()).crop((120, 0, 330, 260)).resize((tall * 210 // 260, tall))
    picture = Image.fromarray(coffee()).resize((1000, 1600))  # the first tile ends at 800, within the face
    picture.paste(head, (250, top))
    assert list(detection._in_tiles(np.asarray(picture), 1.0)) == []
    assert len(find_faces(np.asarray(picture), "retinaface")) == 1


@given(st.lists(st.tuples(*[st.integers(0, 60)] * 4, st.integers(0, 999)), min_size=1, max_size=12,
                unique_by=lambda one: one[4]))
def test_boxes_of_one_face_are_told_as_torchvision_tells_them(rows):
    boxes = [(float(x), float(y), float(x + width + 1), float(y + height + 1)) for x, y, width, height, _ in rows]
    scores = [one[4] for one in rows]
    torch.testing.assert_close(detection.overlaps(boxes, boxes[::2]), box_iou(torch.tensor(boxes),
                                                                              torch.tensor(boxes[::2])))
    kept = detection._once([(box, score, None) for box, score in zip(boxes, scores, strict=True)])
    assert [score for _, score, _ in kept] == [scores[one] for one in nms(
        torch.tensor(boxes), torch.tensor(scores, dtype=torch.float32), 0.4)]
