import contextlib
import importlib.util
import os
import re
import shutil
import stat
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from corpus import LABELS, NAMES, USAGES, csv_text, faces_of, png, votes_text, write_tree, write_zip
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fer_helpers.data.emotions import EMOTIONS
from fer_helpers.data.image_files import read_photograph
from fer_helpers.data.readers import download_faces, load_faces
from fer_helpers.data.sources import VOTES_FILE
from fer_helpers.files import FerError

FACES = faces_of(14)
TEXT = csv_text(FACES, LABELS, USAGES)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("FER_CACHE", str(folder))
    return folder


def load(source, **options):
    return load_faces(source, progress=False, **options)


def files_below(folder: Path) -> dict[str, int]:
    return {str(path): path.lstat().st_size for path in folder.rglob("*") if not path.is_dir()}


# What can be read

@pytest.mark.parametrize("folders", [
    ["train/angry", "train/happy", "test/angry", "test/happy"],
    ["Training/Training/Angry", "Training/Training/Suprise", "Testing/Testing/Angry", "Testing/Testing/Suprise"],
    ["TRAIN/fear", "TRAIN/SAD", "PublicTest/fear", "PrivateTest/sad"],
    ["archive/faces/training set/joy", "archive/faces/training set/neutral", "archive/faces/test set/joy",
     "archive/faces/test set/neutral"],
])
def test_every_known_folder_layout_gives_the_same_pixels_and_splits(tmp_path, folders):
    faces = load(write_tree(tmp_path / "data", folders))
    assert len(faces) == 8 and len(faces.classes) == 2
    assert faces.counts()["train"].tolist() == faces.counts()["test"].tolist() == [2, 2]
    number = {name: place for place, name in enumerate(faces.ids)}
    for place in range(4):
        for row, image in enumerate(faces_of(2, seed=place)):
            assert np.array_equal(faces.images[number[f"fer{2 * place + row:07d}"]].numpy(), image)


def test_validation_folders_become_val_and_serve_as_test_where_there_is_none(tmp_path):
    root = write_tree(tmp_path / "data", ["train/fear", "validation/fear", "test/fear"])
    assert load(root).counts().loc["fear"].tolist() == [2, 2, 2]
    shutil.rmtree(root / "test")
    faces = load(root)
    assert faces.counts().loc["fear"].tolist() == [2, 0, 2] and "validation images serve as test" in faces.notes[0]


def test_flat_folders_are_divided_by_class_with_copies_on_one_side(tmp_path):
    root = write_tree(tmp_path / "data", ["Fear", "happy"], count=40)
    for number in range(10):
        shutil.copy(root / "Fear/fer0000000.png", root / f"Fear/copy{number}.png")
    faces, again = load(root), load(root, cache=False)
    assert np.array_equal(faces.split, again.split) and "no test split" in faces.notes[0]
    assert 8 <= faces.counts().loc["happiness", "test"] <= 9 and 8 <= faces.counts().loc["fear", "test"] <= 20
    assert len(set(faces.split[(faces.groups == faces.groups[np.flatnonzero(faces.ids == "copy0")[0]])])) == 1


def test_hidden_and_system_files_are_ignored_and_order_is_by_path(tmp_path):
    root = write_tree(tmp_path / "data")
    for junk in ("train/angry/.DS_Store", "train/Thumbs.db", "__MACOSX/train/angry/._a.png", ".git/x.png", "notes.txt"):
        (root / junk).parent.mkdir(parents=True, exist_ok=True)
        (root / junk).write_bytes(b"junk")
    faces = load(root)
    assert faces.ids.tolist() == [f"fer{number:07d}" for number in (4, 5, 6, 7, 0, 1, 2, 3)]
    assert faces.split.tolist() == ["test"] * 4 + ["train"] * 4 and faces.classes == ("anger", "happiness")
    assert faces.labels.tolist() == [0, 0, 1, 1] * 2 and faces.source == str(root)
    assert faces.notes == ("1 file was not read (1 .txt), such as notes.txt.",)


def test_repeated_names_become_paths(tmp_path):
    root = write_tree(tmp_path / "data")
    shutil.copy(root / "train/angry/fer0000000.png", root / "test/angry/fer0000000.png")
    assert {"train/angry/fer0000000.png", "test/angry/fer0000000.png", "fer0000001"} <= set(load(root).ids)


@pytest.mark.parametrize("name", ["fer2013.csv", "icml_face_data.csv"])
def test_kaggle_csv_keeps_labels_pixels_and_official_split(tmp_path, name):
    header = ("emotion", "pixels", "Usage") if name == "fer2013.csv" else ("emotion", " pixels", " Usage")
    (tmp_path / name).write_text(csv_text(FACES, LABELS, USAGES, header))
    for source in (tmp_path / name, tmp_path):
        faces = load(source)
        assert np.array_equal(faces.images.numpy(), FACES) and faces.labels.tolist() == LABELS
        assert faces.split.tolist() == ["train"] * 7 + ["test"] * 7
        assert faces.ids[0] == "Training_0000000" and faces.ids[13] == "PrivateTest_0000013"


def test_csv_without_usage_is_divided_and_emotion_names_are_labels_too(tmp_path):
    path = tmp_path / "train.csv"
    path.write_text(csv_text(faces_of(70), NAMES * 5))
    faces = load(path)
    assert faces.labels.tolist() == LABELS * 5 and set(faces.split) == {"train", "test"}
    assert (faces.counts()["test"] >= 2).all() and "no test split" in faces.notes[0]


def test_odd_but_clear_csv_is_read(tmp_path):
    odd = TEXT.replace("\n0,", "\n\n 0 ,", 1).replace(",Usage", ", usage ")
    rows = [row.split(",") for row in odd.splitlines() if row]
    for row, change in zip(rows[1:4], (lambda text: f'"{text}"', lambda text: text.replace(" ", "\t"),
                                       lambda text: f"  {text.replace(' ', '  ')} "), strict=True):
        row[1] = change(row[1])
    rows[4][1] = " ".join(f"{int(word):04d}" for word in rows[4][1].split())
    (tmp_path / "fer2013.csv").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(",".join(row) for row in rows).encode())
    assert np.array_equal(load(tmp_path / "fer2013.csv").images.numpy(), FACES)


def test_csv_of_several_blocks_is_read_in_order(tmp_path):
    many = np.arange(2500, dtype=np.int64)[:, None, None] + np.zeros((48, 48), np.int64)
    (tmp_path / "fer2013.csv").write_text(csv_text(many % 256, many[:, 0, 0] % 7, ["Training", "PublicTest"] * 1250))
    assert np.array_equal(load(tmp_path / "fer2013.csv").images.numpy(), many % 256)


def test_zips_of_folders_and_of_csv_are_read_like_what_they_hold(tmp_path):
    root = write_tree(tmp_path / "data")
    plain, packed = load(root), load(write_zip(tmp_path / "a.zip", root, top="archive/"))
    assert torch.equal(plain.images, packed.images) and np.array_equal(plain.ids, packed.ids)
    inside = write_zip(tmp_path / "only" / "b.zip" if (tmp_path / "only").mkdir() is None else None,
                       {"fer2013/fer2013.csv": TEXT, "fer2013/README": "text"})
    for source in (inside, inside.parent):
        assert np.array_equal(load(source).images.numpy(), FACES)


def test_a_csv_in_a_subfolder_is_found_among_others(tmp_path):
    (tmp_path / "fer2013").mkdir()
    (tmp_path / "fer2013" / "fer2013.csv").write_text(TEXT)
    (tmp_path / "fer2013" / "test.csv").write_text("pixels\n")
    (tmp_path / "sample.png").write_bytes(png(FACES[0]))
    assert len(load(tmp_path)) == 14


GRAY = np.arange(48 * 48, dtype=np.uint8).reshape(48, 48)
COLOUR = np.stack([GRAY, GRAY[::-1], GRAY.T], axis=2)
CONVERTED = {
    "RGB with equal channels": (png(Image.fromarray(GRAY).convert("RGB")), GRAY, "from colour"),
    "palette": (png(Image.fromarray(GRAY).convert("P")), GRAY, "from colour"),
    "16 bit": (png(Image.fromarray(GRAY.astype(np.uint16) * 257)), GRAY, "8 bits"),
    "1 bit": (png(Image.fromarray(GRAY > 127)), (GRAY > 127) * np.uint8(255), "8 bits"),
    "float TIFF": (png(Image.fromarray(GRAY.astype(np.float32) / 255), "TIFF"), GRAY, "8 bits"),
    "transparent": (png(Image.merge("LA", [Image.fromarray(GRAY), Image.fromarray(np.zeros_like(GRAY))])),
                    np.full_like(GRAY, 255), "on white"),
    "opaque": (png(Image.fromarray(GRAY).convert("RGBA")), GRAY, "on white"),
    "larger": (png(Image.fromarray(np.full((96, 96), 70, np.uint8))), np.full_like(GRAY, 70), "resized"),
    "wide": (png(Image.fromarray(np.pad(GRAY, [(0, 0), (30, 30)]))), GRAY, "resized"),
    "one pixel": (png(Image.fromarray(np.full((1, 1), 9, np.uint8))), np.full_like(GRAY, 9), "resized"),
    "CMYK": (png(Image.fromarray(COLOUR).convert("CMYK"), "TIFF"),
             np.asarray(Image.fromarray(COLOUR).convert("CMYK").convert("RGB").convert("L")), "from colour"),
}
TURNED = Image.Exif()
TURNED[0x0112] = 6
CONVERTED["EXIF rotation"] = (png(Image.fromarray(GRAY), exif=TURNED), np.rot90(GRAY, -1), "rotated")


@pytest.mark.parametrize("kind", CONVERTED)
def test_other_kinds_of_images_are_converted_and_counted(tmp_path, kind):
    data, expected, note = CONVERTED[kind]
    root = write_tree(tmp_path / "data")
    for name in ("one.png", "two.png"):
        (root / "train/angry" / name).write_bytes(data)
    faces = load(root)
    got = faces.images[np.flatnonzero(faces.ids == "one")[0]].numpy()
    assert np.array_equal(got, expected)
    assert [text for text in faces.notes if note in text and text.startswith("2 images were")]
    assert load(root).notes == faces.notes  # the cache keeps them


@pytest.mark.parametrize("kind", [kind for kind in CONVERTED if kind not in ("larger", "wide", "one pixel")])
def test_a_photograph_keeps_size_and_colour_and_stands_upright(tmp_path, kind):
    data, expected, _ = CONVERTED[kind]
    (tmp_path / "photo").write_bytes(data)
    got = read_photograph(tmp_path / "photo")
    assert got.dtype == np.uint8 and got.shape == (*expected.shape, 3)
    if kind != "CMYK":
        assert (got == expected[..., None]).all()
    else:
        assert (got == np.asarray(Image.fromarray(COLOUR).convert("CMYK").convert("RGB"))).all()


def test_a_photograph_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "huge.png").write_bytes(png(Image.new("1", (10_000, 6_000))))
    with pytest.raises(FerError, match="huge.png: 10000×6000 pixels are too many"):
        read_photograph(tmp_path / "huge.png")
    with pytest.raises(FerError, match="gone.png: No such file or directory while reading"):
        read_photograph(tmp_path / "gone.png")
    with pytest.raises(FerError, match="Is a directory"):
        read_photograph(tmp_path)


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 4), constant=st.booleans())
def test_any_image_survives_folder_csv_and_zip_unchanged(tmp_path_factory, seed, count, constant):
    root = tmp_path_factory.mktemp("any")
    images = faces_of(count + 1, seed) * np.uint8(not constant)
    for place, image in enumerate(images):
        folder = root / "data" / ("test" if place else "train") / EMOTIONS[place]
        folder.mkdir(parents=True)
        (folder / f"{place}.png").write_bytes(png(image))
    (root / "any.csv").write_text(csv_text(images, range(count + 1), ["Training"] + ["PublicTest"] * count))
    tree = load(root / "data", cache=False)
    sets = [tree.take(np.argsort(tree.ids)), load(root / "any.csv", cache=False)]
    packed = load(write_zip(root / "any.zip", root / "data"), cache=False)
    for faces in (*sets, packed.take(np.argsort(packed.ids))):
        assert np.array_equal(faces.images.numpy(), images) and faces.labels.tolist() == list(range(count + 1))


def test_the_source_is_taken_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("FER_DATA", str(write_tree(tmp_path / "data")))
    assert len(load(None)) == len(load("")) == 8


# What must be refused. Each builder makes a source below a folder and returns it.

def tree_with(place: str, data: bytes | None):
    """A good tree with one more file, or folder where ``data`` is None."""
    def build(folder: Path) -> Path:
        root = write_tree(folder / "data")
        (root / place if data is None else (root / place).parent).mkdir(parents=True, exist_ok=True)
        if data is not None:
            (root / place).write_bytes(data)
        return root
    return build


def csv_with(text: str | bytes, name: str = "fer2013.csv"):
    def build(folder: Path) -> Path:
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return folder / name
    return build


def zip_with(change, members: dict[str, bytes | str] | None = None):
    """A zip whose entries are first altered by ``change(info)``, or whose bytes by ``change(bytes)``."""
    def build(folder: Path) -> Path:
        path = write_zip(folder / "faces.zip", members or {"train/happy/a.png": png(FACES[0])})
        path.write_bytes(change(path.read_bytes()))
        return path
    return build


def link_zip(folder: Path) -> Path:
    info = zipfile.ZipInfo("train/happy/a.png")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(folder / "faces.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    return folder / "faces.zip"


def bomb_zip(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "faces.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive, \
            archive.open("train/happy/a.png", "w") as file:
        for _ in range(110):
            file.write(bytes(1 << 20))
    return folder / "faces.zip"


def twice_zip(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "faces.zip", "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        for _ in range(2):
            archive.writestr("train/happy/a.png", png(FACES[0]))
    return folder / "faces.zip"


def broken_link(folder: Path) -> Path:
    root = write_tree(folder / "data")
    (root / "train/angry/link.png").symlink_to("nowhere")
    return root


def link_loop(folder: Path) -> Path:
    root = write_tree(folder / "data")
    (root / "train/angry/loop").symlink_to(root / "train/angry", target_is_directory=True)
    return root


def absurd_png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


ROWS = TEXT.splitlines()
GOOD = png(FACES[0])
BAD = {  # name: (builder, what the message must name, the fix it must offer)
    "missing folder": (lambda folder: folder / "nowhere", "nowhere", "check the path"),
    "unknown home": (lambda folder: "~no-such-user/data", "~no-such-user/data", "check the path"),
    "text file": (csv_with("hello", "readme.txt"), "readme.txt", "choose a folder"),
    "empty folder": (lambda folder: (folder / "data").mkdir() or folder / "data", "data", "download"),
    "unknown class": (tree_with("train/bored/a.png", GOOD), "train/bored", "say in labels.yaml"),
    "class folder of a number": (tree_with("train/3/a.png", GOOD), "train/3", "AffectNet (0 neutral, 1 happiness"),
    "image in no class": (tree_with("train/a.png", GOOD), "train/a.png", "move it"),
    "unknown split": (tree_with("extra/angry/a.png", GOOD), "extra", "lay them in folders train"),
    "empty image": (tree_with("train/angry/zero.png", b""), "zero.png", "bring a whole copy"),
    "half-written image": (tree_with("train/angry/half.png", GOOD[:len(GOOD) // 2]), "half.png", "bring a whole copy"),
    "image cut in its header": (tree_with("train/angry/head.png", GOOD[:20]), "head.png", "bring a whole copy"),
    "text named png": (tree_with("train/angry/text.png", b"not an image"), "text.png", "bring a whole copy"),
    "program named png": (tree_with("train/angry/run.png", b"%!PS-Adobe-3.0 EPSF-3.0\n"), "run.png",
                          "bring a whole copy"),
    "half-written JPEG": (tree_with("train/angry/half.jpg", png(FACES[0], "JPEG")[:900]), "half.jpg",
                         "bring a whole copy"),
    "absurd header": (tree_with("train/angry/big.png", absurd_png(10**6, 10**6)), "big.png", "bring a smaller copy"),
    "large header": (tree_with("train/angry/big.png", absurd_png(8000, 8000)), "big.png", "bring a smaller copy"),
    "infinite pixels": (tree_with("train/angry/inf.tif", png(Image.fromarray(np.full((4, 4), np.inf, np.float32)),
                                                             "TIFF")), "inf.tif", "bring a whole copy"),
    "broken link": (broken_link, "link.png", "mend it"),
    "link loop": (link_loop, "loop", "choose the folder"),
    "flat class with one image": (lambda folder: write_tree(folder / "data", ["fear", "sad"], count=1), "data", "add"),
    "empty CSV": (csv_with(""), "fer2013.csv", "download"),
    "only a header": (csv_with(ROWS[0]), "fer2013.csv", "download"),
    "no pixels": (csv_with(TEXT.replace("pixels", "image", 1)), "fer2013.csv: line 1", "choose one of"),
    "no labels": (csv_with("pixels\n1 2 3", "test.csv"), "test.csv: line 1", "choose one of fer2013.csv"),
    "unknown number": (csv_with(TEXT.replace("\n6,", "\n7,", 1)), "fer2013.csv: line 8", "correct the row"),
    "unknown name": (csv_with(TEXT.replace("\n6,", "\nbored,", 1)), "line 8: unknown emotion 'bored'", "correct"),
    "unknown usage": (csv_with(TEXT.replace("PublicTest", "Public", 1)), "fer2013.csv: line 9", "correct it"),
    "pixels short": (csv_with("\n".join([*ROWS[:3], "3,1 2 3,Training"])), "fer2013.csv: line 4: 3 pixels", "download"),
    "a pixel too many and one too few": (
        csv_with("\n".join([ROWS[0], ROWS[1].replace(",Tr", " 1,Tr"), ROWS[2].replace(",Tr", ",Tr"),
                            ",".join([ROWS[3].split(",")[0], ROWS[3].split(",")[1].rsplit(" ", 1)[0], "Training"])])),
        "line 2: 2305 pixels", "download"),
    "cut in the pixels": (csv_with(TEXT[:-5000]), "fer2013.csv: line 15", "cut short"),
    "cut in the usage": (csv_with(TEXT[:-4]), "fer2013.csv: line 15", "correct it or download"),
    "pixel is a word": (csv_with(TEXT.replace(" ", " x", 1)), "fer2013.csv: line 2", "correct the row"),
    "pixel is negative": (csv_with(TEXT.replace(" ", " -", 1)), "fer2013.csv: line 2", "correct the row"),
    "pixel is 256": (csv_with(re.sub(r" \d+ ", " 256 ", TEXT, count=1)), "line 2: pixel '256'", "correct the row"),
    "pixel has five digits": (csv_with(TEXT.replace(" ", " 12345 ", 1)), "pixel '12345'", "correct the row"),
    "pixel in Arabic digits": (csv_with(TEXT.replace(" ", " \u0663 ", 1)), "fer2013.csv: line 2", "correct the row"),
    "column too many": (csv_with(TEXT.replace(",Training", ",Training,1", 1)), "fer2013.csv: line 2", "download"),
    "binary": (csv_with(b"emotion,pixels,Usage\n\xff\xfe\x00"), "fer2013.csv: after line", "download"),
    "field without end": (csv_with(TEXT.splitlines()[0] + '\n0,"' + "1 " * 100_000), "fer2013.csv: after line",
                          "download"),
    "zip leads outside": (zip_with(lambda data: data.replace(b"train/happy", b"../tr/happy")), "../tr/happy",
                          "do not trust"),
    "zip is absolute": (zip_with(lambda data: data.replace(b"train/happy", b"/rain/happy")), "/rain/happy", "download"),
    "zip names a drive": (zip_with(lambda data: data.replace(b"train/happy", b"C:\\in\\happy")), "C:/in", "download"),
    "zip holds a link": (link_zip, "train/happy/a.png", "pack the files"),
    "zip bomb": (bomb_zip, "faces.zip", "download"),
    "zip holds a name twice": (twice_zip, "train/happy/a.png", "pack it again"),
    "zip is encrypted": (zip_with(lambda data: data.replace(b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14"
                                                            b"\x00\x01")), "train/happy/a.png", "password"),
    "zip cut short": (zip_with(lambda data: data[:-30]), "faces.zip", "download"),
    "zip is empty": (zip_with(lambda data: b""), "faces.zip", "download"),
    "zip with flipped bytes": (zip_with(lambda data: data[:300] + bytes(50) + data[350:]), "train/happy/a.png",
                               "download"),
    "zip of a bad CSV": (zip_with(lambda data: data, {"x/train.csv": "emotion,pixels\n0,1 2"}), "train.csv: line 2",
                         "download"),
    "zip without faces": (zip_with(lambda data: data, {"readme.md": "text", "b.txt": "c"}), "faces.zip", "download"),
    "votes missing": (None, "nowhere.csv", "leave it out"),
}
if os.name == "posix":
    BAD["name is no text"] = (lambda folder: tree_with(os.fsdecode(b"train/angry/\xff.png"), GOOD)(folder), "udcff.png",
                              "copy it under")


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_bad_input_is_refused_with_its_name_and_a_fix(tmp_path, cache, kind):
    build, named, fix = BAD[kind]
    (tmp_path / "given").mkdir()
    options = {}
    if build is None:
        build, options = tree_with("notes.txt", b""), {"votes": tmp_path / "nowhere.csv"}
    source = build(tmp_path / "given")
    before = files_below(tmp_path)
    with pytest.raises(FerError) as caught:
        load(source, **options)
    assert named in str(caught.value) and fix in str(caught.value), str(caught.value)
    assert not any(word in str(caught.value) for word in ("delete", "rename"))  # what a person owns
    assert files_below(tmp_path) == before and not cache.exists()


@contextlib.contextmanager
def as_nobody():
    """Root may read everything, so be another user for a while; others are what they are."""
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.mark.skipif(os.name != "posix", reason="rights of files are tested where POSIX rules them")
@pytest.mark.parametrize(("closed", "named"), [("data/train/angry", "train/angry"),
                                               ("data/train/angry/fer0000000.png", "fer0000000.png"),
                                               ("data", "data"), ("faces.csv", "faces.csv"),
                                               ("faces.zip", "faces.zip")])
def test_what_may_not_be_read_is_named(tmp_path, monkeypatch, closed, named):
    write_tree(tmp_path / "data")
    csv_with(TEXT, "faces.csv")(tmp_path)
    write_zip(tmp_path / "faces.zip", tmp_path / "data")
    for path in (tmp_path, *tmp_path.rglob("*")):
        path.chmod(0o755)
    monkeypatch.chdir(tmp_path)  # paths are relative: the way here may be closed to nobody
    Path(closed).chmod(0)
    try:
        with as_nobody(), pytest.raises(FerError, match=f"{named}: no permission while reading; change the folder's"):
            load(closed.split("/")[0])
    finally:
        Path(closed).chmod(0o755)


# A few seeds of the right kind, so that random bytes reach deeper than the first check.
NOISE = st.one_of(st.binary(max_size=200), st.tuples(st.integers(0, 2000), st.binary(min_size=1, max_size=8)))


def spoil(good: bytes, noise) -> bytes:
    """Random bytes, or ``good`` with some bytes replaced from a place on."""
    if isinstance(noise, bytes):
        return noise
    place, data = noise[0] % max(len(good), 1), noise[1]
    return good[:place] + data + good[place + len(data):]


@given(noise=NOISE)
@pytest.mark.parametrize("name", ["fer2013.csv", VOTES_FILE, "faces.zip", "data/train/angry/a.png",
                                  "data/train/angry/a.jpg", "data/train/angry/a.gif", "data/train/angry/a.tif"])
@pytest.mark.filterwarnings("ignore")  # Pillow warns of what it then refuses
@settings(max_examples=40)
def test_spoilt_files_are_read_or_refused_but_never_crash(tmp_path_factory, name, noise):
    folder = tmp_path_factory.mktemp("noise")
    root = write_tree(folder / "data", ["train/angry", "test/angry"], count=1)
    format = {"jpg": "JPEG", "gif": "GIF", "tif": "TIFF"}.get(name[-3:], "PNG")
    good = {"fer2013.csv": TEXT.encode(), VOTES_FILE: votes_text(["fer0000000.png"]).encode(),
            "faces.zip": write_zip(folder / "good.zip", root).read_bytes()}.get(name) or png(FACES[0], format)
    (folder / name).write_bytes(spoil(good, noise))
    with contextlib.suppress(FerError):
        faces = load(root if name.startswith("data") or name == VOTES_FILE else folder / name, cache=False)
        assert len(faces) and faces.images.dtype == torch.uint8


# Cache

def test_the_cache_is_used_while_the_files_stay_the_same_and_only_then(tmp_path, cache):
    root = write_tree(tmp_path / "data")
    first = load(root)
    (stored,) = cache.iterdir()
    written = stored.stat().st_mtime_ns
    again = load(root)
    assert again.fingerprint == first.fingerprint and again.notes == first.notes and again.source == first.source
    assert stored.stat().st_mtime_ns == written
    path = root / "train/angry/fer0000000.png"
    path.write_bytes(png(faces_of(1, seed=99)[0]))
    os.utime(path, ns=(1, 1))
    assert load(root).fingerprint != first.fingerprint
    (root / "train/angry/new.png").write_bytes(GOOD)
    assert len(load(root)) == 9
    path.unlink()
    assert len(load(root)) == 8 and len(list(cache.iterdir())) == 1
    assert load(root, cache=False).fingerprint == load(root).fingerprint


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "text", "other arrays", "pickle"])
def test_a_damaged_cache_is_noticed_and_rewritten(tmp_path, cache, damage):
    root = write_tree(tmp_path / "data")
    good = load(root)
    (stored,) = cache.iterdir()
    data = stored.read_bytes()
    place = data.index(b"images.npy") + 2000
    if damage == "other arrays":
        with np.load(stored) as arrays:
            np.savez(stored, **{**arrays, "images": arrays["images"][:3]})
    elif damage == "pickle":
        with np.load(stored) as arrays:
            np.savez(stored, **{**arrays, "ids": arrays["ids"].astype(object)})
    else:
        flipped = data[:place] + bytes([data[place] ^ 1]) + data[place + 1:]
        stored.write_bytes({"flip": flipped, "cut": data[:place], "empty": b"", "text": b"hello"}[damage])
    faces = load(root)
    assert faces.fingerprint == good.fingerprint and "was damaged" in faces.notes[-1] and str(stored) in faces.notes[-1]
    assert load(root).notes == () and load(root).fingerprint == good.fingerprint


@settings(max_examples=60)
@given(place=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_no_single_flipped_bit_in_the_cache_changes_what_is_read(tmp_path_factory, place, bit):
    folder = tmp_path_factory.mktemp("bits")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FER_CACHE", str(folder / "cache"))
        root = write_tree(folder / "data", count=1)
        good = load(root)
        (stored,) = (folder / "cache").iterdir()
        data = bytearray(stored.read_bytes())
        data[place % len(data)] ^= 1 << bit
        stored.write_bytes(data)
        assert load(root).fingerprint == good.fingerprint


def test_a_locked_cache_folder_does_not_stop_the_reading(tmp_path, locked_folder, monkeypatch):
    text = locked_folder / "fer2013.csv"
    with contextlib.ExitStack() as stack:
        if os.getuid() == 0:  # the fixture made us nobody; step out to place the data
            os.seteuid(0)
            stack.callback(os.seteuid, 65534)
        locked_folder.chmod(0o755)
        text.write_text(TEXT)
        text.chmod(0o644)
        locked_folder.chmod(0o555)
    monkeypatch.setenv("FER_CACHE", "cache")
    faces = load(text)
    assert len(faces) == 14 and "No cached copy was kept" in faces.notes[-1] and "no permission" in faces.notes[-1]
    assert [path.name for path in locked_folder.iterdir()] == ["fer2013.csv"]


def test_a_full_disk_does_not_stop_the_reading_and_keeps_no_half_copy(tmp_path, full_disk, monkeypatch):
    monkeypatch.setenv("FER_CACHE", str(full_disk))
    root = write_tree(tmp_path / "data", count=20)
    faces = load(root)
    assert len(faces) == 80 and "No space left" in faces.notes[-1] and "free some space" in faces.notes[-1]
    assert list(full_disk.iterdir()) == []


def test_a_file_in_place_of_the_cache_folder_does_not_stop_the_reading(tmp_path, cache):
    cache.write_text("in the way")
    assert "No cached copy was kept" in load(write_tree(tmp_path / "data")).notes[-1]


# Download

@pytest.mark.skipif(importlib.util.find_spec("kagglehub") is not None, reason="kagglehub is installed here")
def test_download_without_kagglehub_says_how_to_get_it(tmp_path):
    with pytest.raises(FerError, match=r"pip install 'fer_helpers\[download\]'"):
        download_faces(tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def test_download_never_overwrites(tmp_path):
    with pytest.raises(FerError, match="already exists; choose another"):
        download_faces(tmp_path)


# The real data

def test_real_faces_have_their_known_counts_and_votes(real_data):
    faces = load(None)
    assert faces.classes == EMOTIONS
    assert faces.counts()["train"].tolist() == [3963, 439, 4077, 7186, 4805, 3156, 4932]
    assert faces.counts()["test"].tolist() == [467, 56, 496, 891, 652, 413, 604]
    assert not faces.votes.isnan().any() and "32,137 of 32,137" in faces.notes[0]
    shares = faces.vote_shares()
    agree = (shares.argmax(1) == faces.labels)[~shares.isnan().any(1)].float().mean()
    assert 0.6 < agree < 0.7  # one label against the majority of ten people
