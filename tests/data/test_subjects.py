import numpy as np
import pytest
from PIL import Image

from fer_helpers.data.readers import load_faces
from fer_helpers.data.subjects import subjects_of


@pytest.mark.parametrize(("name", "person"), [
    ("S005_001_00000011.png", "S005"), ("train/happy/S130_013_00000009", "S130"), ("s010_004_00000017.PNG", "S010"),
    ("KA.AN1.39.tiff", "KA"), ("YM.SU3.60", "YM"), ("KA.AN1.39", "KA"),
    ("AF01ANS.JPG", "F01"), ("BF01HAFL.JPG", "F01"), ("AM35NEHR", "M35"),
])
def test_the_person_is_read_from_the_names_of_the_field(name, person):
    assert subjects_of([name]).tolist() == [person]


@pytest.mark.parametrize("name", ["fer0000005.png", "synthetic-000001", "train_00001_aligned.jpg", "Training_12345.jpg",
                                  "image0006.jpg", "S005_001.png", "AF01XXS.JPG", "KA.XX1.39.tiff", ""])
def test_other_names_tell_no_person(name):
    assert subjects_of([name]) is None


def test_persons_are_told_only_where_all_names_follow_one_pattern():
    ck, kdef = ["S005_001_00000011", "S010_002_00000014"], ["AF01ANS", "BF01ANS"]
    assert subjects_of(ck).tolist() == ["S005", "S010"] and subjects_of(kdef).tolist() == ["F01", "F01"]
    assert subjects_of(ck + kdef) is None and subjects_of([*ck, "fer0000005"]) is None and subjects_of([]) is None


@pytest.mark.parametrize("name", ["S{:03d}_001_{:08d}.png", "AF{:02d}{}S.JPG"])
def test_data_without_a_test_split_is_divided_by_persons(tmp_path, name):
    for label, emotion in enumerate(("anger", "happiness", "sadness")):
        (tmp_path / emotion).mkdir()
        for person in range(1, 11):
            picture = np.random.default_rng(100 * label + person).integers(0, 256, (48, 48)).astype(np.uint8)
            file = name.format(person, ("AN", "HA", "SA")[label] if "S.JPG" in name else label)
            Image.fromarray(picture).save(tmp_path / emotion / file)
    faces = load_faces(tmp_path, cache=False, progress=False)
    people = [set(faces.subjects[faces.split == split]) for split in ("train", "test")]
    assert not people[0] & people[1] and list(map(len, people)) == [8, 2]
    assert any("all images of a person kept together" in note for note in faces.notes)
