"""Pictures are read for what they are, whatever they are called; of what is no picture it is said what it is."""

import io

import numpy as np
import pytest
import torch
from corpus import faces_of, png, write_tree
from PIL import Image

from fer_helpers.data.image_files import PICTURES, read_photograph
from fer_helpers.data.readers import load_faces
from fer_helpers.files import FerError
from fer_helpers.inference.photographs import find_pictures

SHADES = np.repeat(np.repeat(np.arange(9, dtype=np.uint8).reshape(3, 3) * 25 + 20, 16, 0), 16, 1)  # survives any codec


def picture(format: str) -> bytes:
    if format != "HEIF":
        options = {"save_all": True, "append_images": [Image.fromarray(SHADES)]} if format == "MPO" else {}
        return png(Image.fromarray(SHADES), format, **options)
    heif = pytest.importorskip("pillow_heif")
    file = io.BytesIO()
    heif.from_pillow(Image.fromarray(SHADES)).save(file, quality=95)
    return file.getvalue()


@pytest.mark.parametrize(("format", "names"), [
    ("HEIF", ["IMG_1.HEIC", "b.heif", "renamed.jpg", "without ending"]), ("AVIF", ["a.avif", "sent.jpg", "a"]),
    ("MPO", ["stereo.mpo", "stereo.jpg"]), ("JPEG", ["a.jfif", "a.jpe", "a.JPG", "a.png", "image.img"]),
    ("WEBP", ["a.jpg", "a.webp"])])
def test_pictures_are_read_for_what_they_are(tmp_path, format, names):
    root = write_tree(tmp_path / "data", ["train/sad", "train/fear", "test/fear"])
    for number, name in enumerate(names):
        folder = root / ("test/sad" if number % 2 else "train/sad")
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes(picture(format))
        assert np.abs(read_photograph(folder / name)[..., 0].astype(int) - SHADES).mean() < 4
    faces = load_faces(root, cache=False, progress=False)
    assert len(faces) == 6 + len(names)
    seen = faces.images[faces.labels == faces.classes.index("sadness")].int()
    assert ((seen - torch.from_numpy(SHADES).int()).abs().float().mean((1, 2)) < 4).sum() == len(names)


@pytest.mark.parametrize(("data", "what"), [
    (b"%PDF-1.7\n", "a PDF document"), (b"", "empty"), (b"  <svg/>", "an SVG"), (b"PK\3\4", "an office document"),
    (b"\0\0\0\x20ftypisom", "a film"), (b"8BPS\0\1", "a Photoshop document"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "a film")])
def test_of_what_is_no_picture_it_is_said_what_it_is_and_never_that_it_should_go(tmp_path, data, what):
    (tmp_path / "mine.jpg").write_bytes(data)
    with pytest.raises(FerError, match=what) as caught:
        read_photograph(tmp_path / "mine.jpg")
    assert not any(word in str(caught.value) for word in ("delete", "rename", "download"))


def test_a_heic_picture_needs_the_extra_only_when_one_is_met(tmp_path, monkeypatch):
    data = picture("HEIF")
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    (tmp_path / "a.png").write_bytes(png(SHADES))
    (tmp_path / "a.heic").write_bytes(data)
    assert read_photograph(tmp_path / "a.png").shape == (48, 48, 3)
    with pytest.raises(FerError, match=r"a\.heic: is a HEIC picture; .*pip install 'fer_helpers\[photo\]'"):
        read_photograph(tmp_path / "a.heic")


def test_a_turned_heic_picture_stands_upright_once(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    turned = Image.Exif()
    turned[0x0112] = 6
    heif.from_bytes("L", (48, 48), SHADES.tobytes()).save(tmp_path / "a.heic", exif=turned.tobytes(), quality=95)
    seen = read_photograph(tmp_path / "a.heic")[..., 0].astype(int)
    assert np.abs(seen - np.rot90(SHADES, -1)).mean() < 4


LITTER = ["._face.jpg", "__MACOSX/happy/a.png", "train/angry/@eaDir/a.png", ".thumbnails/a.png",
          ".Trash-1000/files/a.png", "$RECYCLE.BIN/a.png", "train/angry/._fer0000000.png",
          "train/Thumbs.db", "#recycle/train/angry/a.png"]


@pytest.mark.parametrize("name", LITTER)
def test_litter_is_skipped_by_the_reader_and_by_predict_alike(tmp_path, name):
    root = write_tree(tmp_path / "data")
    before = find_pictures([root])
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(b"\0\5\x16\7 of a Mac")
    faces = load_faces(root, cache=False, progress=False)
    assert len(faces) == 8 and faces.notes == () and find_pictures([root]) == before


@pytest.mark.parametrize("ending", PICTURES)
def test_predict_finds_every_ending_that_the_reader_knows(tmp_path, ending):
    (tmp_path / f"a{ending.upper()}").write_bytes(png(faces_of(1)[0]))
    assert [path.suffix.lower() for path in find_pictures([tmp_path])] == [ending]
