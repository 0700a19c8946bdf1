"""The layouts of the field, as docs/your-own-data.md shows them: what they mean, and what is wrong with one."""

import io
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from corpus import faces_of, png, write_tree, write_zip
from typer.main import get_command
from typer.testing import CliRunner

from fer_helpers.cli import app
from fer_helpers.data.emotions import VOTE_COLUMNS
from fer_helpers.data.readers import load_faces, map_faces
from fer_helpers.data.sources import LABELS_FILE
from fer_helpers.files import FerError

PAGE = (Path(__file__).parents[2] / "docs" / "your-own-data.md").read_text(encoding="utf-8")
TREES = {title.splitlines()[0]: re.findall(r"```text\n(.*?)```", title, re.DOTALL) for title in PAGE.split("\n## ")[1:]}
FACES = faces_of(40)


def files_of(tree: str) -> dict[str, bytes]:
    """Path and bytes of each file of a tree on the page: what stands below a file is what it holds, others are
    pictures."""
    files, lines = {}, {}
    for line in tree.splitlines():
        if line.startswith(" "):
            lines[list(files)[-1]] = [*lines.get(list(files)[-1], []), line[4:]]
        else:
            kind = {"jpg": "JPEG", "JPG": "JPEG", "tiff": "TIFF"}.get(line.rpartition(".")[2], "PNG")
            files[line] = png(FACES[len(files)], kind)
    for name, (first, *rest) in lines.items():
        if name.endswith(".npy"):
            np.save(file := io.BytesIO(), np.array(first))
            files[name] = file.getvalue()
        elif name.endswith(".parquet"):
            files[name] = parquet([int(line.split()[-1]) for line in rest], name)
        else:
            pixels = [" ".join(map(str, face.ravel())) for face in faces_of(len(rest) + 1, seed=len(name))]
            files[name] = "\n".join(re.sub(r"[\d ]+ … [\d ]+", text, line)
                                    for text, line in zip(pixels, [first, *rest], strict=True)).encode()
    return files


def parquet(labels, seed="", names=("happy", "sad"), **options) -> bytes:
    """A file as ``datasets`` writes it: pictures, numbers, and what those mean in the schema."""
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq
    faces = faces_of(len(labels), seed=len(seed))
    table = pa.table({"image": [{"bytes": png(face), "path": None} for face in faces], "label": labels})
    if names:
        quoted = ", ".join(f'"{name}"' for name in names)
        table = table.replace_schema_metadata({
            "huggingface": f'{{"info": {{"features": {{"label": {{"names": [{quoted}], "_type": "ClassLabel"}}}}}}}}'})
    pq.write_table(table, file := io.BytesIO(), **{"row_group_size": 2} | options)
    return file.getvalue()


def write(root: Path, files: dict[str, bytes | str]) -> Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data.encode() if isinstance(data, str) else data)
    return root


def build(root: Path, title: str, place: int = 0, **change: bytes | str) -> Path:
    """The tree on the page with other files, their paths' marks spelt ``__`` (/) and ``_dot_`` (.)."""
    files = files_of(TREES[title][place]) | {
        name.replace("__", "/").replace("_dot_", "."): data for name, data in change.items()}
    return write(root, {name: data for name, data in files.items() if data is not None})


def load(source, **options):
    return load_faces(source, cache=False, progress=False, **options)


def refusal(source, **options) -> str:
    with pytest.raises(FerError) as caught:
        load(source, **options)
    message = str(caught.value)
    assert "delete" not in message and "rename" not in message
    return message


def seen(faces) -> dict[str, int]:
    """Images by class, and by split and class where the layout names splits."""
    made = any("set aside" in note for note in faces.notes)
    return Counter(("" if made else f"{split} ") + faces.classes[label]
                   for split, label in zip(faces.split, faces.labels, strict=True))


def pairs(*emotions: str) -> dict[str, int]:
    return {f"{split} {emotion}": 1 for emotion in emotions for split in ("train", "test")}


EXPECTED = [  # title, which of its trees, images, words of the notes, persons
    ("A table", 0, pairs("happiness", "sadness"), "", 2),
    ("Class folders", 0, pairs("happiness", "sadness", "contempt"), "", 0),
    ("Class folders", 1, {"happiness": 3, "sadness": 3}, "all images of a person kept together", 3),
    ("A CSV of pixels", 0, {"train anger": 1, "test happiness": 1, "test anger": 1, "train happiness": 1},
     "the name of a coding is enough", 0),
    ("Numbers, and words of your own", 0, pairs("happiness", "contempt"), "1 images of 8 were left out", 0),
    ("Numbers, and words of your own", 1, pairs("anger", "happiness"), "1 images of bored were left out", 0),
    ("RAF-DB", 0, pairs("happiness", "sadness"), "1 file was not read", 0),
    ("AffectNet", 0, pairs("happiness", "sadness"), "1 images of 9 were left out, as the coding of AffectNet says", 0),
    ("CK+", 0, {"disgust": 2, "happiness": 2}, "Of 4 labelled sequences the last picture was read, of 6 pictures in all"
     "; 1 sequences without a label were left out", 3),
    ("JAFFE", 0, {"anger": 2, "happiness": 2}, "", 2),
    ("KDEF", 0, {"anger": 2, "happiness": 2}, "1 images in profile or half profile were left out", 2),
    ("FER+", 0, pairs("neutral", "happiness"), "1 images that most called unknown", 0),
    ("Parquet of the Hugging Face Hub", 0, pairs("happiness", "sadness"), "", 0),
]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("title", "place", "images", "note", "persons"), EXPECTED)
def test_each_layout_on_the_page_is_read_as_it_says(tmp_path, title, place, images, note, persons, packed):
    root = build(tmp_path / "data", title, place)
    if packed and (root / LABELS_FILE).exists():
        (root / LABELS_FILE).replace(tmp_path / LABELS_FILE)
    faces = load(write_zip(tmp_path / "set.zip", root) if packed else root)
    assert seen(faces) == images and note in " ".join(faces.notes)
    assert (0 if faces.subjects is None else len(set(faces.subjects))) == persons


def test_the_page_shows_no_layout_that_is_not_read_here():
    shown = {(title, place) for title, trees in TREES.items() for place in range(len(trees))}
    assert shown == {(title, place) for title, place, *_ in EXPECTED}


def test_contempt_is_read_and_left_out_of_six_classes_with_a_note(tmp_path):
    root = write_tree(tmp_path / "data", [f"{split}/{name}" for split in ("train", "test") for name in (
        "anger", "fear", "happiness", "sadness", "surprise", "neutral", "contempt")], count=1)
    faces = load(root)
    assert faces.counts().loc["contempt", ["train", "test"]].tolist() == [1, 1]
    assert "2 of contempt" in faces.with_classes(6).notes[-1] and "contempt" not in faces.with_classes(6).classes


# A table

ROWS = TREES["A table"][0]
TABLE = files_of(ROWS)["labels.csv"].decode()


@pytest.mark.parametrize("change", [
    lambda text: text.replace(",", "\t"), lambda text: text.replace(",", ";"), lambda text: text.replace("/", "\\"),
    lambda text: text.replace("path,label,split,subject", "Image,EXPRESSION,Usage,Person"),
    lambda text: "\ufeff" + text.replace("\n", "\r\n").replace("happy", " Happiness ")])
def test_a_table_may_be_written_in_any_usual_way(tmp_path, change):
    root = build(tmp_path / "data", "A table", labels_dot_csv=None, faces_dot_csv=change(TABLE))
    for source in (root, root / "faces.csv"):
        assert seen(load(source)) == pairs("happiness", "sadness") and len(set(load(source).subjects)) == 2


def test_a_table_from_elsewhere_is_read_with_the_folder_of_its_pictures(tmp_path):
    root = build(tmp_path / "data", "A table", labels_dot_csv=None)
    table = write(tmp_path / "other", {"mine.csv": TABLE.replace("pictures/", "")}) / "mine.csv"
    faces = load(root / "pictures", labels=table)
    assert seen(faces) == pairs("happiness", "sadness")
    ran = CliRunner().invoke(app, ["data", "check", str(root / "pictures"), "--labels", str(table)])
    assert ran.exit_code == 0 and "2 subjects" in ran.stdout
    assert "images FOLDER --labels TABLE" in refusal(root, labels=table)
    assert "no such table" in refusal(root, labels=tmp_path / "none.csv")
    assert "leave out the table" in refusal("synthetic", labels=table)
    assert {"--images", "--labels"} <= {name for one in get_command(app).commands["train"].params
                                        for name in one.opts}


def test_a_parquet_may_be_the_table(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq
    root = build(tmp_path / "data", "A table", labels_dot_csv=None)
    names = [f"pictures/{number}.png" for number in range(1, 5)]
    pq.write_table(pa.table({"path": names, "label": ["happy", "sad"] * 2, "split": ["train", "train", "test", "test"],
                             "subject": [7, 7, None, None]}), root / "labels.parquet")
    faces = load(root)
    assert seen(faces) == pairs("happiness", "sadness") and len(set(faces.subjects)) == 3  # blanks are two persons


@pytest.mark.parametrize(("old", "new", "named", "fix"), [
    ("1.png", "gone.png", "line 2: no picture 'pictures/gone.png'", "--images FOLDER"),
    ("pictures", "nowhere", "'nowhere/3.png' and 1 more", "paths start in"),
    ("pictures/1.png", "../data/pictures/1.png/../../../x.png", "points outside", "write paths that start"),
    ("pictures/1.png", "/etc/passwd", "'/etc/passwd' points outside", "write paths that start"),
    ("pictures/1.png", "C:\\\\me\\\\1.png", "points outside", "write paths that start"),
    ("1.png", "2.png", "line 3: 'pictures/2.png' stands further up", "one row"),
    ("happy", "uncertain", "line 2: unknown label 'uncertain', line 4", "NAME: null"),
    ("happy", "", "line 2: unknown label ''", "known are anger"),
    ("sad", "4", "line 3: the label 4 is a number", "RAF-DB (1 surprise, 2 fear"),
    ("happy", "3.0", "line 2: the label 3.0 is a number", "CK+ (0 neutral, 1 anger, 2 contempt"),
    (",test", ",holdout", "line 4: unknown split 'holdout'", "write train, val or test"),
    (",test", ",", "line 4: unknown split ''", "write train, val or test"),
    (",Bob", "", "line 4: 3 columns", "correct the row"),
    ("path,label", "path,meaning", "no column label", "needs path and label"),
])
def test_what_is_wrong_with_a_table_is_named_with_its_line_and_a_fix(tmp_path, old, new, named, fix):
    root = build(tmp_path / "data", "A table", labels_dot_csv=re.sub(re.escape(old), new, TABLE))
    message = refusal(root)
    assert "labels.csv" in message and named in message and fix in message, message


def test_a_table_beside_class_folders_is_not_read(tmp_path):
    root = write_tree(tmp_path / "data")
    write(root, {"labels.csv": "path,label\ngone.png,happy\n"})
    assert len(load(root)) == 8 and "1 file was not read" in load(root).notes[-1]


def test_persons_of_a_table_are_kept_through_cache_views_and_disk(tmp_path, monkeypatch):
    monkeypatch.setenv("FER_CACHE", str(tmp_path / "cache"))
    root = build(tmp_path / "data", "A table")
    first, again, mapped = (load_faces(root, progress=False), load_faces(root, progress=False),
                            map_faces(root, tmp_path / "mapped", progress=False))
    for faces in (again, mapped, first.take(np.arange(4)), first.with_classes("happiness+sadness")):
        assert faces.people.tolist() == first.people.tolist() == [0, 0, 1, 1] and faces.subjects[0] == first.subjects[0]
    assert again.fingerprint == mapped.fingerprint == first.fingerprint
    write(root, {"labels.csv": TABLE.replace("Bob", "Ann")})
    assert load_faces(root, progress=False).fingerprint != first.fingerprint


# Class folders

def test_folders_below_classes_are_persons_only_where_all_are_and_never_unread(tmp_path):
    two = {f"{name}/S0{person}/{name}{person}.png": png(FACES[place * 2 + person])
           for place, name in enumerate(("happy", "sad")) for person in (1, 2)}
    faces = load(write(tmp_path / "two", two))
    assert len(faces) == 4 and faces.subjects is None
    more = {f"{name}/S0{person}/deep/{name}{person}.png": png(FACES[place * 4 + person])
            for place, name in enumerate(("happy", "sad")) for person in range(4)}
    faces = load(write(tmp_path / "deep", more))
    assert len(faces) == 8 and faces.subjects is None


@pytest.mark.parametrize("folders", [["0", "1"], ["train/0", "train/1", "test/0", "test/1"]])
def test_class_folders_of_numbers_are_not_guessed(tmp_path, folders):
    root = write_tree(tmp_path / "data", folders, count=3)
    message = refusal(root)
    assert f"{folders[0]}: the class folder (3 pictures) is a number" in message and "AffectNet (0 neutral" in message
    (root / LABELS_FILE).write_text("affectnet\n")
    assert load(root).classes == ("happiness", "neutral")


def test_the_name_of_no_coding_is_refused(tmp_path):
    root = write_tree(tmp_path / "data", ["0", "1"])
    (root / LABELS_FILE).write_text("AffectionNet\n")
    assert "no mapping of labels" in (message := refusal(root)) and "FER2013, RAF-DB, AffectNet, CK+" in message


# Sets as they come: what is wrong with one

EMOTION, ANNOTATION = "Emotion/S005/001/S005_001_00000011_emotion.txt", "train_set/annotations/0_exp.npy"
LABEL, LIST = "FER2013Train/label.csv", "EmoLabel/list_patition_label.txt"
HUB = "data/train-00000-of-00001.parquet"


@pytest.mark.parametrize(("title", "name", "data", "named"), [
    ("RAF-DB", LIST, "train_00001.jpg 5\ntrain_00009.jpg 4\n", "line 2: no picture of 'train_00009'"),
    ("RAF-DB", LIST, "train_00001.jpg 9\n", "line 1: unknown label '9'"),
    ("RAF-DB", LIST, "train_00001.jpg\n\n", "line 1: no picture of ''"),
    ("AffectNet", "train_set/images/0.jpg", None, f"{ANNOTATION}: no picture images/0"),
    ("AffectNet", ANNOTATION, b"\x93NUMPY", f"{ANNOTATION}: is no annotation"),
    ("AffectNet", ANNOTATION, b"x" * 9999, "has 9,999 bytes"),
    ("CK+", EMOTION, "anger", f"{EMOTION}: is no label ('anger')"),
    ("CK+", EMOTION, "9.0", f"{EMOTION}: unknown label '9'"),
    ("CK+", "Emotion/S099/001/S099_001_00000011_emotion.txt", "3.0", "its sequence S099_001 has no pictures"),
    ("FER+", LABEL, "fer0000009.png,,4,0,0,1,3,2,0,0,0,0\n", f"{LABEL}: line 1: no picture 'fer0000009.png'"),
    ("FER+", LABEL, "fer0000000.png,,4,0,0\nfer0000002.png,,4,0,0,x,3,2,0,0,0,0\n", "line 1: no ten votes"),
    ("JAFFE", "KA.AN1.39.tiff", b"", "KA.AN1.39.tiff: is no readable image"),
    ("KDEF", "KDEF/AF01/AF01ANS.JPG", png(FACES[0])[:90], "AF01ANS.JPG: is no readable image"),
    ("Parquet of the Hugging Face Hub", HUB, b"PAR1" + bytes(50) + b"PAR1", f"{HUB}: the Parquet file is damaged"),
    ("Parquet of the Hugging Face Hub", HUB, b"", f"{HUB}: the Parquet file is damaged"),
])
def test_what_is_wrong_with_a_set_is_named(tmp_path, title, name, data, named):
    message = refusal(write(tmp_path / "data", {place: what for place, what in (
        files_of(TREES[title][0]) | {name: data}).items() if what is not None}))
    assert named in message, message


def test_the_votes_of_fer_plus_pictures_are_kept(tmp_path):
    faces = load(build(tmp_path / "data", "FER+"))
    assert faces.votes[list(faces.ids).index("fer0000000")].tolist() == [4, 0, 0, 1, 3, 2, 0, 0, 0, 0]
    assert len(VOTE_COLUMNS) == 10 and faces.vote_shares().sum(1).tolist() == [1] * 4


def test_a_parquet_alone_or_without_names_or_with_words(tmp_path):
    path = write(tmp_path / "one", {"train.parquet": parquet([0, 1] * 4)}) / "train.parquet"
    faces = load(path)
    assert seen(faces) == {"happiness": 4, "sadness": 4}
    assert all(np.array_equal(one, other) for one, other in zip(faces.images.numpy(), faces_of(8), strict=True))
    assert "is a number" in refusal(write(tmp_path / "two", {"train.parquet": parquet([0, 1], names=())}))
    assert seen(load(write(tmp_path / "three", {"a.parquet": parquet(["joy", "sad"] * 4, names=())}))) == {
        "happiness": 4, "sadness": 4}


@pytest.mark.parametrize("options", [
    {"data_page_version": "2.0", "compression": "zstd"}, {"use_dictionary": False, "compression": "none"},
    {"data_page_size": 100, "write_page_index": True, "write_page_checksum": True, "row_group_size": 8},
    {"use_dictionary": False, "column_encoding": {"label": "DELTA_BINARY_PACKED"}, "compression": "brotli"}],
    ids=lambda options: next(iter(options)))
def test_a_parquet_is_read_however_it_was_written(tmp_path, options):
    faces = load(write(tmp_path, {"train.parquet": parquet([0, 1] * 4, **options)}))
    assert all(np.array_equal(one, other) for one, other in zip(faces.images.numpy(), faces_of(8), strict=True))
    assert seen(faces) == {"happiness": 4, "sadness": 4}


def test_a_spoilt_parquet_is_one_line_or_read(tmp_path):
    good, random = parquet([0, 1] * 4), np.random.default_rng(0)
    for _ in range(60):
        data = bytearray(good)
        for place in random.integers(0, len(good), 3):
            data[place] ^= 1 << random.integers(0, 8)
        path = write(tmp_path, {"train.parquet": bytes(data)}) / "train.parquet"
        try:
            assert len(load(path)) <= 8
        except FerError as error:
            assert "\n" not in str(error)
