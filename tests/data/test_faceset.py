import dataclasses

import numpy as np
import pytest
import torch
from conftest import easy_faces, easy_images
from hypothesis import given, settings
from hypothesis import strategies as st

from fer_helpers.data.emotions import ACTION_UNITS, CLASS_SETS, EMOTIONS, REGIONS, VOTE_COLUMNS
from fer_helpers.data.faceset import SPLITS, FaceSet
from fer_helpers.files import FerError


def face_set(labels, split, images=None, **more) -> FaceSet:
    """A set of the seven emotions from labels and a split name each."""
    labels = np.asarray(labels, dtype=np.int64)
    return FaceSet(easy_images(labels) if images is None else images, torch.from_numpy(labels),
                   np.array([f"image{number}" for number in range(len(labels))]), np.array(split, dtype="<U5"),
                   EMOTIONS, source="tiny", **more)


def with_extras(faces: FaceSet) -> FaceSet:
    """The same images with votes, action units and regions that name their row."""
    row = torch.arange(len(faces), dtype=torch.float32)
    return dataclasses.replace(
        faces, votes=row[:, None].repeat(1, len(VOTE_COLUMNS)), action_units=row[:, None].repeat(1, len(ACTION_UNITS)),
        regions=(row % 16).to(torch.uint8)[:, None, None].repeat(1, 48, 48))


def replaced(faces: FaceSet, **change) -> FaceSet:
    return dataclasses.replace(faces, **change)


# ---------------------------------------------------------------- the set itself

@pytest.mark.parametrize(("change", "message"), [
    ({"images": torch.zeros(154, 48, 48)}, "uint8"),
    ({"images": torch.zeros(154, 48, 47, dtype=torch.uint8)}, r"\(154, 48, 47\)"),
    ({"images": torch.zeros(154, 1, 48, 48, dtype=torch.uint8)}, "48"),
    ({"images": torch.zeros(153, 48, 48, dtype=torch.uint8)}, "154 labels for 153 images"),
    ({"labels": torch.zeros(3, dtype=torch.int64)}, "3 labels for 154 images"),
    ({"labels": torch.full((154,), 7)}, r"0\.\.6"),
    ({"labels": torch.full((154,), -1)}, r"0\.\.6"),
    ({"ids": np.array(["one"])}, "1 ids for 154 images"),
    ({"ids": np.array(["one"] * 154)}, "ids repeat"),
    ({"split": np.array(["train"] * 153)}, "153 split"),
    ({"split": np.array(["training"] * 154)}, "training"),
    ({"votes": torch.zeros(5, 10)}, "5 votes"),
    ({"action_units": torch.zeros(5, 13)}, "5 action_units"),
    ({"regions": torch.zeros(5, 48, 48, dtype=torch.uint8)}, "5 regions"),
])
def test_a_set_that_does_not_fit_together_is_refused_with_its_source(faces, change, message):
    with pytest.raises(FerError, match=f"easy faces.*{message}"):
        replaced(faces, **change)


def test_a_set_is_immutable(faces):
    with pytest.raises(dataclasses.FrozenInstanceError):
        faces.labels = faces.labels + 1


def test_a_set_of_no_image_is_valid_and_counts_zero(faces):
    empty = faces.take(np.array([], dtype=int))
    assert len(empty) == 0
    assert empty.counts().shape == (7, 3)
    assert empty.counts().to_numpy().sum() == 0


def test_fingerprint_changes_with_every_part_and_only_then(faces):
    images, labels, ids, split = faces.images.clone(), faces.labels.clone(), faces.ids.copy(), faces.split.copy()
    images[3, 20, 20] ^= 1
    labels[3] = (labels[3] + 1) % 7
    ids[3] = "other"
    split[3] = "val"
    changed = [replaced(faces, images=images), replaced(faces, labels=labels), replaced(faces, ids=ids),
               replaced(faces, split=split), replaced(faces, classes=EMOTIONS[::-1]),
               faces.take(np.arange(len(faces) - 1, -1, -1))]
    assert len({one.fingerprint for one in [faces, *changed]}) == 7
    assert replaced(faces, source="elsewhere", notes=("a note",)).fingerprint == faces.fingerprint
    assert len(faces.fingerprint) == 16


def test_take_keeps_every_column_together(faces):
    faces = with_extras(faces)
    index = np.array([5, 2, 9])
    for chosen in (faces.take(index), faces.take(np.isin(np.arange(len(faces)), index)).take(np.array([1, 0, 2]))):
        assert chosen.ids.tolist() == faces.ids[index].tolist()
        assert chosen.votes[:, 0].tolist() == chosen.action_units[:, 0].tolist() == index.tolist()
        assert chosen.regions[:, 0, 0].tolist() == index.tolist()
        assert torch.equal(chosen.images, faces.images[index])
        assert torch.equal(chosen.labels, faces.labels[index])
        assert chosen.split.tolist() == faces.split[index].tolist()


def test_take_accepts_a_reversed_view_of_an_array(faces):
    assert faces.take(np.arange(5)[::-1]).ids.tolist() == faces.ids[4::-1].tolist()


def test_take_shares_no_memory_with_the_old_set(faces):
    before = faces.images.clone()
    faces.take(np.arange(10)).images.zero_()
    assert torch.equal(faces.images, before)


@pytest.mark.parametrize("split", SPLITS)
def test_only_keeps_one_split(split):
    faces = face_set([0, 1, 2, 3], ["train", "val", "test", "train"])
    assert faces.only(split).ids.tolist() == [f"image{i}" for i in range(4) if faces.split[i] == split]


def test_counts_are_images_by_class_and_split_with_zeros():
    table = face_set([0, 0, 3, 3, 3], ["train", "test", "train", "train", "val"]).counts()
    assert list(table.index) == list(EMOTIONS)
    assert list(table.columns) == list(SPLITS)
    assert table.loc["anger"].tolist() == [1, 0, 1]
    assert table.loc["happiness"].tolist() == [2, 1, 0]
    assert table.to_numpy().sum() == 5


# ---------------------------------------------------------------- class views

@pytest.mark.parametrize("classes", [3, 6, 7, "6"])
def test_class_view_drops_other_emotions_and_renumbers_the_rest(faces, classes):
    view = with_extras(faces).with_classes(classes)
    names = CLASS_SETS[int(classes)]
    assert view.classes == names
    by_id = dict(zip(faces.ids, faces.labels.tolist(), strict=True))
    kept = [identity for identity in faces.ids if EMOTIONS[by_id[identity]] in names]
    assert view.ids.tolist() == kept
    assert [names[label] for label in view.labels.tolist()] == [EMOTIONS[by_id[identity]] for identity in kept]
    assert view.labels.dtype == torch.int64
    assert [faces.ids[int(row)] for row in view.votes[:, 0]] == kept


def test_class_view_of_a_set_in_another_order(faces):
    backwards = replaced(faces, classes=EMOTIONS[::-1], labels=6 - faces.labels)
    assert backwards.with_classes(6).fingerprint == faces.with_classes(6).fingerprint


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_class_without_image_is_named(faces, split):
    fear = EMOTIONS.index("fear")
    lacking = faces.take((faces.labels.numpy() != fear) | (faces.split != split))
    with pytest.raises(FerError, match=f"easy faces: no {split} image of class fear"):
        lacking.with_classes(6)


def test_a_class_outside_the_view_may_be_empty(faces):
    lacking = faces.take(faces.labels.numpy() != EMOTIONS.index("disgust"))
    assert len(lacking.with_classes(6)) == len(lacking)
    with pytest.raises(FerError, match="disgust"):
        lacking.with_classes(7)


def test_what_a_view_leaves_out_is_counted_by_class(faces):
    left = {name: int(count) for name, count in faces.counts().sum(axis=1).items()}
    assert not faces.with_classes(7).notes
    assert faces.with_classes("fear+sad+neutral+angry").notes == (
        "Images left out, whose class is none of anger, fear, sadness, neutral: " + ", ".join(
            f"{left[name]} of {name}" for name in ("disgust", "happiness", "surprise")) + ".",)


def test_the_classes_of_the_data_are_those_to_train_and_to_test(faces):
    named = np.array(EMOTIONS)[faces.labels.numpy()]
    lacking = faces.take((named != "sadness") & ((named != "fear") | (faces.split == "train"))
                         & ((named != "disgust") | (faces.split == "test")))
    view = lacking.with_classes("data")
    assert view.classes == ("anger", "happiness", "surprise", "neutral")
    with pytest.raises(FerError, match="no train image of class disgust.* set classes to data"):
        lacking.with_classes("anger+disgust")


def test_a_view_cannot_grow_back(faces):
    with pytest.raises(FerError, match="sadness"):
        faces.with_classes(3).with_classes(6)


def test_no_image_of_any_class_is_named(faces):
    with pytest.raises(FerError, match="anger, fear, happiness"):
        faces.take(faces.labels.numpy() == EMOTIONS.index("disgust")).with_classes(3)


def test_an_unknown_number_of_classes_is_refused(faces):
    with pytest.raises(FerError, match="classes=5"):
        faces.with_classes(5)


# ---------------------------------------------------------------- copies

def leaky(faces: FaceSet) -> FaceSet:
    """With three test images that are copies: of a train image, of a val image, and of another test image."""
    split, images = faces.split.copy(), faces.images.clone()
    train, test = np.flatnonzero(split == "train"), np.flatnonzero(split == "test")
    split[train[1]] = "val"
    images[test[0]], images[test[1]], images[test[2]] = images[train[0]], images[train[1]], images[test[3]]
    return replaced(faces, images=images, split=split)


def test_in_train_marks_train_and_val_and_their_copies(faces):
    leaked = leaky(faces)
    test = np.flatnonzero(leaked.split == "test")
    marked = leaked.in_train()
    assert marked[leaked.split != "test"].all()
    assert np.flatnonzero(marked[test]).tolist() == [0, 1]


def test_clean_test_leaves_out_copies_of_train_and_val_only(faces):
    leaked = leaky(faces)
    test = np.flatnonzero(leaked.split == "test")
    clean = leaked.clean_test()
    assert set(leaked.ids) - set(clean.ids) == set(leaked.ids[test[:2]])
    assert faces.clean_test().ids.tolist() == faces.ids.tolist()


def test_groups_number_pixel_identical_images(faces):
    leaked = leaky(faces)
    assert len(np.unique(leaked.groups)) == len(faces) - 3


# ---------------------------------------------------------------- validation split

@given(seed=st.integers(0, 2**31), fraction=st.floats(0.02, 0.9), train=st.integers(2, 20))
@settings(max_examples=20)
def test_validation_takes_its_fraction_of_every_class(seed, fraction, train):
    faces = easy_faces(train=train, test=2)
    parts = faces.split_validation(fraction, seed)
    for name, row in parts.counts().iterrows():
        assert row["test"] == 2, name
        assert row["train"] + row["val"] == train
        assert row["train"] >= 1
        assert row["val"] >= 1
        assert abs(row["val"] - fraction * train) <= 1


@st.composite
def sets_with_copies(draw):
    """Noise images of which some come several times: exact or relit, under any label, in any split."""
    random = np.random.default_rng(draw(st.integers(0, 10_000)))
    base = random.integers(0, 226, (draw(st.integers(9, 24)), 48, 48))
    picture = np.concatenate([np.arange(len(base)), random.integers(0, len(base), draw(st.integers(0, 20)))])
    contrast = random.choice([1.0, 0.8, 0.6], len(picture))[:, None, None]
    images = torch.from_numpy((base[picture] * contrast + random.choice([0, 30], len(picture))[:, None, None])
                              .round().astype(np.uint8))
    labels = np.arange(len(picture)) % 3
    labels[len(base):] = random.integers(0, 3, len(picture) - len(base))
    split = np.where(random.random(len(picture)) < 0.2, "val", "train").astype("<U5")
    split[len(base):] = random.choice(SPLITS, len(picture) - len(base))
    faces = FaceSet(images, torch.from_numpy(labels), np.array([f"i{i}" for i in range(len(labels))]), split,
                    CLASS_SETS[3], source="copies")
    return faces, picture


@given(sets_with_copies(), st.floats(0.05, 0.6), st.integers(0, 100))
def test_no_copy_stands_in_both_train_and_validation(made, fraction, seed):
    faces, picture = made
    try:
        parts = faces.split_validation(fraction, seed)
    except FerError as error:
        assert "distinct train image" in str(error)  # noqa: PT017
        return
    sides = [set(picture[parts.split == side]) for side in ("train", "val")]
    assert not sides[0] & sides[1]
    assert all(sides)
    assert (parts.split == "test").tolist() == (faces.split == "test").tolist()


def test_validation_is_the_same_for_a_seed_and_another_for_another(faces):
    first, again, other = (faces.split_validation(0.3, seed).split.tolist() for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_an_earlier_validation_split_is_merged_back(faces):
    once = faces.split_validation(0.25, seed=3)
    for earlier in (faces.split_validation(0.5, seed=9), once):
        assert earlier.split_validation(0.25, seed=3).split.tolist() == once.split.tolist()


def test_splitting_changes_nothing_but_the_split(faces):
    faces = with_extras(faces)
    parts = faces.split_validation(0.2)
    assert torch.equal(parts.images, faces.images)
    assert parts.ids.tolist() == faces.ids.tolist()
    assert torch.equal(parts.votes, faces.votes)
    assert faces.counts()["val"].sum() == 0


def test_splitting_works_when_no_image_is_called_train_yet():
    faces = face_set([0, 0, 1, 1, 2, 2], ["val"] * 6)
    faces = replaced(faces, split=np.array(["val"] * 6), classes=EMOTIONS[:3])
    assert set(faces.split_validation(0.5).split) == {"train", "val"}


def test_the_split_does_not_depend_on_what_was_asked_before():
    """Near groups are kept once known; knowing them must not change what a seed means."""
    faces = easy_faces(train=6, test=2)
    disgust = np.flatnonzero(faces.labels == EMOTIONS.index("disgust"))[0]
    copies = np.flatnonzero((faces.labels == EMOTIONS.index("anger")).numpy() & (faces.split == "train"))[-2:]
    images = faces.images.clone()
    images[copies[1]] = images[disgust]  # an image outside the view stands first in its group
    order = np.concatenate([[disgust], np.delete(np.arange(len(faces)), disgust)])
    fresh, asked = (replaced(faces, images=images).take(order) for _ in range(2))
    assert len(asked.near_groups) == len(asked)
    for seed in range(4):
        assert (fresh.with_classes(6).split_validation(0.3, seed).fingerprint
                == asked.with_classes(6).split_validation(0.3, seed).fingerprint)


@given(st.lists(st.integers(0, 153), min_size=1, unique=True), st.booleans())
@settings(max_examples=15)
def test_near_groups_of_a_part_are_those_of_the_whole(rows, asked):
    whole = leaky(easy_faces())
    if asked:
        assert len(whole.near_groups) == 154
    part = whole.take(np.array(rows))
    same = whole.groups[rows][:, None] == whole.groups[rows]
    assert ((part.near_groups[:, None] == part.near_groups) == same).all()


def test_near_groups_are_not_handed_on_to_other_images(faces):
    assert len(set(faces.near_groups)) == len(faces)
    assert set(replaced(faces, images=faces.images[:1].repeat(len(faces), 1, 1)).near_groups) == {0}


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, float("nan"), float("inf")])
def test_an_impossible_fraction_is_named(faces, fraction):
    with pytest.raises(FerError, match="val_fraction=.*between 0 and 1"):
        faces.split_validation(fraction)


def test_a_class_of_one_picture_cannot_be_split_and_is_named():
    faces = face_set([0, 0, 1, 1, 1], ["train"] * 5)
    images = faces.images.clone()
    images[2:] = images[2]
    with pytest.raises(FerError, match="tiny: class disgust has 1 distinct"):
        replaced(faces, images=images, classes=EMOTIONS[:2]).split_validation()


def test_a_class_that_train_lacks_stays_without_validation_images(faces):
    lacking = faces.take((faces.labels.numpy() != EMOTIONS.index("fear")) | (faces.split == "test"))
    counts = lacking.split_validation(0.25, seed=1).counts()
    assert counts.loc["fear"].tolist() == [0, 0, 6]
    assert (counts.drop("fear")["val"] == 4).all()


# ---------------------------------------------------------------- persons

CK_PLUS = "S{person:03d}_{label:03d}_{frame:08d}"
KDEF = "{session}F{person:02d}{code}{angle}"


def named_after(pattern: str, persons: int = 12, split: str = "train") -> FaceSet:
    """Two images of each person and emotion, named as the data set of that pattern names them."""
    codes, rows = ("AN", "DI", "AF", "HA", "SA", "SU", "NE"), []
    for person in range(1, persons + 1):
        rows += [(label, pattern.format(person=person, label=label, frame=copy, session="AB"[copy], code=codes[label],
                                        angle="S")) for label in range(7) for copy in range(2)]
    labels = np.array([label for label, _ in rows])
    images = torch.randint(256, (len(rows), 48, 48), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return replaced(face_set(labels, [split] * len(rows), images), ids=np.array([name for _, name in rows]))


@pytest.mark.parametrize("pattern", [CK_PLUS, KDEF])
@pytest.mark.parametrize("fraction", [0.1, 0.25])
def test_a_person_stands_on_one_side_only_and_every_class_on_both(pattern, fraction):
    faces = named_after(pattern)
    for seed in range(3):
        parts = faces.split_validation(fraction, seed)
        sides = [set(parts.subjects[parts.split == side]) for side in ("train", "val")]
        assert len(faces.subjects) == len(faces) and not sides[0] & sides[1] and len(sides[0] | sides[1]) == 12
        assert len(sides[1]) == round(12 * fraction) and (parts.counts()[["train", "val"]] > 0).all(axis=None)
        assert parts.split.tolist() == faces.split_validation(fraction, seed).split.tolist()


def test_a_copy_joins_the_persons_it_is_called_after():
    faces = named_after(CK_PLUS, persons=4)
    images = faces.images.clone()
    images[20] = images[0]  # of the second person and the first
    parts = replaced(faces, images=images).split_validation(0.5, seed=1)
    assert len(set(parts.split[np.isin(parts.subjects, ["S001", "S002"])])) == 1


def test_a_draw_of_persons_gives_rare_classes_to_both_sides():
    faces = named_after(CK_PLUS)
    rare = faces.take((faces.labels != EMOTIONS.index("disgust")).numpy() | np.isin(faces.subjects, ["S003", "S008"]))
    assert (rare.split_validation(0.25).counts()["val"] > 0).all()


def test_a_class_that_one_person_shows_cannot_be_split_by_persons():
    faces = named_after(KDEF)
    alone = faces.take((faces.labels != EMOTIONS.index("fear")).numpy() | (faces.subjects == "F03"))
    with pytest.raises(FerError, match="tiny: one person alone shows fear"):
        alone.split_validation()


def test_views_keep_the_persons_of_the_whole(faces):
    named = named_after(CK_PLUS)
    assert named.take(np.array([30, 2])).subjects.tolist() == ["S003", "S001"]
    mixed = replaced(named, ids=np.array([*named.ids[:-1], "somebody"]))
    assert mixed.subjects is mixed.take(np.arange(3)).subjects is faces.subjects is None


# ---------------------------------------------------------------- the last in folder order

def rows_of(counts: dict[str, int], test: int = 1) -> FaceSet:
    """So many train images of each emotion, all black and in mixed order, and ``test`` of each."""
    numbers = [EMOTIONS.index(name) for name in counts]
    labels = np.random.default_rng(0).permutation(np.repeat(numbers, list(counts.values())))
    return face_set([*labels, *np.repeat(np.arange(7), test)], ["train"] * len(labels) + ["test"] * 7 * test,
                    torch.zeros(1, 48, 48, dtype=torch.uint8).expand(len(labels) + 7 * test, -1, -1))


def test_the_last_quarter_of_the_original_train_folder_is_all_its_happy_faces_and_some_fear():
    parts = rows_of({"anger": 3995, "fear": 4097, "happiness": 1717}).split_last(0.25)
    counts = parts.counts()
    assert counts["train"].to_dict() == dict.fromkeys(EMOTIONS, 0) | {"anger": 3995, "fear": 3361}
    assert counts["val"].to_dict() == dict.fromkeys(EMOTIONS, 0) | {"fear": 736, "happiness": 1717}
    assert (counts["test"] == 1).all()


@given(st.lists(st.integers(0, 30), min_size=7, max_size=7).filter(any), st.floats(0.01, 0.99))
@settings(max_examples=20)
def test_the_last_share_goes_by_the_names_of_classes_and_then_by_the_order_of_images(numbers, fraction):
    faces = rows_of(dict(zip(EMOTIONS, numbers, strict=True)))
    pool = np.flatnonzero(faces.split == "train")
    by_hand = sorted(pool, key=lambda row: (EMOTIONS[faces.labels[row]], row))
    kept = int(len(pool) * (1 - fraction))
    parts = faces.split_last(fraction)
    assert set(np.flatnonzero(parts.split == "train")) == set(by_hand[:kept])
    assert set(np.flatnonzero(parts.split == "val")) == set(by_hand[kept:])
    assert parts.ids.tolist() == faces.ids.tolist() and faces.counts()["val"].sum() == 0


def test_splitting_off_the_last_merges_an_earlier_split_back_and_refuses_what_is_no_share(faces):
    last = faces.split_last(0.25)
    assert faces.split_validation(0.5).split_last(0.25).split.tolist() == last.split.tolist()
    assert last.counts()["val"].to_dict() == dict.fromkeys(EMOTIONS, 0) | {"surprise": 16, "sadness": 12}
    with pytest.raises(FerError, match="val_fraction=1.*between 0 and 1"):
        faces.split_last(1)


# ---------------------------------------------------------------- fewer images

@given(st.integers(7, 120), st.integers(0, 1000))
@settings(max_examples=15)
def test_limit_train_keeps_the_class_shares(count, seed):
    labels = np.repeat(np.arange(7), [40, 5, 20, 30, 10, 10, 5])
    faces = face_set(np.concatenate([labels, np.arange(7)]), ["train"] * 120 + ["test"] * 7,
                     torch.zeros(127, 48, 48, dtype=torch.uint8))
    limited = faces.limit_train(count, seed)
    kept = limited.counts()
    assert kept["train"].sum() == count
    assert kept["test"].tolist() == [1] * 7
    assert kept["train"].min() >= 1
    # Rounding up a class of one image takes from the large ones, never more than one image a class in all.
    assert np.abs(kept["train"] / count - faces.counts()["train"] / 120).max() <= 2 / count


def test_limit_train_depends_on_the_seed_only(faces):
    assert faces.limit_train(50, 1).ids.tolist() == faces.limit_train(50, 1).ids.tolist()
    assert faces.limit_train(50, 1).ids.tolist() != faces.limit_train(50, 2).ids.tolist()


def test_limit_train_above_what_is_there_keeps_everything(faces):
    assert faces.limit_train(10_000).ids.tolist() == faces.ids.tolist()


def test_limit_train_never_drops_a_class(faces):
    least = faces.limit_train(len(faces.classes)).only("train")
    assert sorted(least.labels.tolist()) == list(range(len(faces.classes)))
    with pytest.raises(FerError, match="set train_limit to 7 or more"):
        faces.limit_train(len(faces.classes) - 1)


def test_limit_train_of_a_smaller_count_is_contained_in_the_larger(faces):
    # A learning curve should grow its train set, not draw a new one for every point.
    assert set(faces.limit_train(30, 1).ids) <= set(faces.limit_train(60, 1).ids)


# ---------------------------------------------------------------- what only some data know

def test_region_mask_reads_its_bit(faces):
    random = torch.Generator().manual_seed(0)
    masks = torch.rand(len(REGIONS), len(faces), 48, 48, generator=random) < 0.5
    packed = sum(mask.to(torch.uint8) << bit for bit, mask in enumerate(masks))
    masked = replaced(faces, regions=packed.to(torch.uint8))
    for region, mask in zip(REGIONS, masks, strict=True):
        assert masked.region_mask(region).dtype == torch.bool
        assert torch.equal(masked.region_mask(region), mask)


def test_region_mask_errors_name_the_source_and_the_choices(faces):
    with pytest.raises(FerError, match="easy faces.*no region masks"):
        faces.region_mask("eyes")
    with pytest.raises(FerError, match="'ear'.*brows, eyes, nose, mouth"):
        with_extras(faces).region_mask("ear")


def test_vote_shares_are_normalised_over_the_classes_of_the_view(faces):
    random = torch.Generator().manual_seed(0)
    votes = torch.randint(0, 11, (len(faces), len(VOTE_COLUMNS)), generator=random).float()
    view = replaced(faces, votes=votes).with_classes(3)
    shares = view.vote_shares()
    assert shares.shape == (len(view), 3)
    expected = votes[np.isin(faces.ids, view.ids)][:, [VOTE_COLUMNS.index(name) for name in view.classes]].numpy()
    some = expected.sum(1) > 0
    np.testing.assert_allclose(shares[some], expected[some] / expected[some].sum(1, keepdims=True), rtol=1e-6)


def test_vote_shares_are_nan_where_no_vote_is_left(faces):
    votes = torch.zeros(len(faces), len(VOTE_COLUMNS))
    votes[:, VOTE_COLUMNS.index("contempt")] = 10
    votes[1] = float("nan")
    votes[2, VOTE_COLUMNS.index("fear")] = 1
    shares = replaced(faces, votes=votes).vote_shares()
    assert shares[:2].isnan().all()
    assert shares[2].tolist() == [0, 0, 1, 0, 0, 0, 0]


def test_vote_shares_without_votes_say_what_file_is_missing(faces):
    with pytest.raises(FerError, match="easy faces.*fer2013new.csv"):
        faces.vote_shares()
