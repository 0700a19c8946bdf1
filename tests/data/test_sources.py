"""What a folder holds: all faults at once, what is left out counted, and what labels mean as their owner says."""

import pytest
from corpus import LABELS, USAGES, csv_text, faces_of, png, write_tree

from fer_helpers.data.emotions import EMOTIONS
from fer_helpers.data.readers import load_faces
from fer_helpers.data.sources import LABELS_FILE
from fer_helpers.files import FerError

FACE = png(faces_of(1)[0])


def load(source):
    return load_faces(source, cache=False, progress=False)


def add(root, *names, data=FACE):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)


def refusal(source) -> str:
    with pytest.raises(FerError) as caught:
        load(source)
    message = str(caught.value)
    assert "delete" not in message and "rename" not in message
    return message


def test_all_bad_pictures_are_named_at_once_by_kind(tmp_path):
    root = write_tree(tmp_path / "data")
    add(root, *(f"train/angry/bad{number}.png" for number in range(5)), data=FACE[:100])
    add(root, "val/happy/huge.png", data=png(faces_of(1)[0].repeat(170, 0).repeat(170, 1)))
    message = refusal(root)
    assert "train/angry/bad0.png: is no readable" in message and "bad2.png" in message and "bad3.png" not in message
    assert "and 2 more; bring a whole copy" in message and "Also: val/happy/huge.png: 8160×8160 pixels" in message


def test_all_misplaced_pictures_and_unknown_classes_are_named_at_once(tmp_path):
    root = write_tree(tmp_path / "data")
    add(root, "train/a.png", "test/b.png", "train/furious/c.png", "train/furious/d.png", "test/bored/e.png")
    message = refusal(root)
    assert "test/b.png: lies in no class folder, train/a.png: lies in no class folder; move it" in message
    assert "train/furious: unknown class folder (2 pictures)" in message and "test/bored" in message
    assert message.count(f"say in {LABELS_FILE}") == 1


def test_all_bad_rows_are_named_at_once_by_kind(tmp_path):
    rows = csv_text(faces_of(14), LABELS, USAGES).splitlines()
    for line in (2, 4, 6, 7):
        rows[line] = "9" + rows[line][1:]
    rows[8], rows[9], rows[10] = rows[8].replace("PublicTest", "Public"), rows[9] + ",1", rows[10].replace(" ", " x", 1)
    (tmp_path / "fer2013.csv").write_text("\n".join(rows))
    message = refusal(tmp_path / "fer2013.csv")
    for part in ("fer2013.csv: line 3: unknown emotion '9', line 5",
                 "line 7: unknown emotion '9' and 1 more; known are",
                 "line 9: unknown Usage 'Public'", "line 10: 4 columns", "line 11: pixel 'x"):
        assert part in message, (part, message)


@pytest.mark.parametrize(("folders", "kinds"), [
    (["images/1.png", "features/1.npy"], "1 .npy, 1 .png"), (["Image/aligned/test_0001.jpg"], "1 .jpg")])
def test_folders_without_classes_are_told_what_they_hold(tmp_path, folders, kinds):
    add(tmp_path / "data", *folders)
    message = refusal(tmp_path / "data")
    assert "holds no class folders such as train/happiness" in message and f"it holds {kinds}" in message


def test_what_is_not_read_is_counted_in_one_note(tmp_path):
    root = write_tree(tmp_path / "data")
    add(root, "train/angry/notes.txt", "train/angry/features.npy", "readme.txt", "docs/face.png", data=b"text")
    assert load(root).notes == ("4 files were not read (2 .txt, 1 .npy, 1 .png), such as docs/face.png.",)


@pytest.mark.parametrize("spoil", [lambda root: (root / "train/fear").mkdir(),
                                   lambda root: add(root, "test/disgust/.hidden", "test/disgust/readme.md", data=b"a")])
def test_an_empty_class_folder_blocks_nothing_and_is_noted(tmp_path, spoil):
    root = write_tree(tmp_path / "data")
    spoil(root)
    faces = load(root)
    assert len(faces) == 8 and "Class folders without a picture: t" in faces.notes[0]


@pytest.mark.parametrize("small", ["disgust", "surprise"])
def test_a_class_of_one_picture_blocks_no_setting_without_it(tmp_path, small):
    used = ["anger", "fear", "happiness"]
    root = write_tree(tmp_path / "data", used, count=6)
    add(root, f"{small}/alone.png", data=png(faces_of(1, seed=9)[0]))
    faces = load(root)
    assert f"but for {small}, of which there is one image" in faces.notes[0]
    assert faces.with_classes(3).counts()["test"].tolist() == [2, 2, 2] and faces.split[faces.ids == "alone"] == "train"
    assert faces.counts()["test"][small] == 0


@pytest.mark.parametrize(("text", "expected"), [
    ("furious: anger\nbored: null\n", {"anger": 3, "happiness": 2}),
    ("Furious: fear\nBORED: neutral\n", {"anger": 2, "fear": 1, "happiness": 2, "neutral": 2})])
def test_a_file_says_which_emotion_a_folder_is(tmp_path, text, expected):
    root = write_tree(tmp_path / "data")
    add(root, "train/furious/a.png", "train/bored/b.png", "test/bored/c.png")
    (root / LABELS_FILE).write_text(text)
    faces = load(root)
    train_and_test = faces.counts().sum(axis=1) - [2 * (name in ("anger", "happiness")) for name in faces.classes]
    assert train_and_test.to_dict() == expected
    assert ("2 images of bored were left out" in " ".join(faces.notes)) == ("null" in text)


@pytest.mark.parametrize(("text", "named"), [("furious: rage\n", "furious: unknown emotion 'rage'"),
                                             ("7", "no mapping"), ("a: [", "is no YAML")])
def test_a_bad_file_of_labels_is_refused_by_name(tmp_path, text, named):
    root = write_tree(tmp_path / "data")
    (root / LABELS_FILE).write_text(text)
    message = refusal(root)
    assert str(root / LABELS_FILE) in message and named in message and f"0: {EMOTIONS[-1]}" in message
