import pytest

from fer_helpers.data.emotions import (
    ACTION_UNITS,
    CLASS_SETS,
    EMOTIONS,
    PROTOTYPES,
    REGIONS,
    TAXONOMY,
    VOTE_COLUMNS,
    action_unit_vector,
    canonical,
    class_set,
    class_setting,
)
from fer_helpers.files import FerError

SPELLINGS = {
    "anger": ("anger", "angry"), "disgust": ("disgust", "disgusted"),
    "fear": ("fear", "fearful", "scared", "afraid"), "happiness": ("happiness", "happy", "joy"),
    "sadness": ("sadness", "sad"), "surprise": ("surprise", "surprised", "suprise", "suprised"),
    "neutral": ("neutral", "neutrality"), "contempt": ("contempt", "contemptuous"),
}


@pytest.mark.parametrize(("emotion", "spelling"), [(e, s) for e, all_of in SPELLINGS.items() for s in all_of])
def test_every_usual_spelling_in_any_case_names_its_emotion(emotion, spelling):
    for name in (spelling, spelling.upper(), spelling.title(), f"  {spelling}\n"):
        assert canonical(name) == emotion


@pytest.mark.parametrize("name", ["", "boredom", "unknown", "ang ry", "happyness?", "7"])
def test_other_names_are_no_emotion(name):
    assert canonical(name) is None


def test_emotions_stand_in_the_order_of_fer2013():
    assert EMOTIONS == ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")


@pytest.mark.parametrize("classes", [3, 6, 7, 8])
def test_class_set_keeps_the_order_of_emotions_for_number_and_digits(classes):
    names = class_set(classes)
    assert len(names) == classes and class_setting(names) == classes
    assert list(names) == [name for name in TAXONOMY if name in names]
    assert class_set(str(classes)) == names == CLASS_SETS[classes]


def test_six_classes_leave_out_disgust_only():
    assert set(EMOTIONS) - set(class_set(6)) == {"disgust"}


@pytest.mark.parametrize("classes", [0, 1, 5, 9, -3, 6.0, "six", "", "6.0", "-3", None, True, "²", "anger", "3+6",
                                     "anger+bored", "anger+angry", ["fear"], "data", "+", [3, 6]])
def test_class_set_refuses_other_values_and_lists_the_choices(classes):
    with pytest.raises(FerError, match=r"classes=.*choose one of 3, 6, 7, 8, two or more of anger, .* or data"):
        class_set(classes)


@pytest.mark.parametrize(("classes", "names", "setting"), [
    ("happy+angry", ("anger", "happiness"), "anger+happiness"),
    ("Neutral, sad ,Happy,Angry", ("anger", "happiness", "sadness", "neutral"), "anger+happiness+sadness+neutral"),
    (["contempt", "fear"], ("fear", "contempt"), "fear+contempt"),
    ("happiness+fear+anger", CLASS_SETS[3], 3),
])
def test_class_set_takes_names_in_any_order_and_spelling(classes, names, setting):
    assert class_set(classes) == names == class_set(setting) and class_setting(names) == setting


def test_class_set_of_data_is_what_is_present():
    assert class_set("data", ("neutral", "fear")) == ("fear", "neutral")


def test_every_emotion_has_a_prototype_of_known_action_units():
    assert set(PROTOTYPES) == set(EMOTIONS)
    for units in PROTOTYPES.values():
        assert set(units) <= set(ACTION_UNITS)
        assert len(set(units)) == len(units)


def test_prototypes_differ_from_one_another():
    assert len(set(map(frozenset, PROTOTYPES.values()))) == len(EMOTIONS)


def test_every_action_unit_is_part_of_a_prototype():
    assert set(ACTION_UNITS) == {unit for units in PROTOTYPES.values() for unit in units}


def test_action_unit_vector_is_one_at_the_active_units():
    vector = action_unit_vector(PROTOTYPES["happiness"])
    assert {unit for unit, value in zip(ACTION_UNITS, vector, strict=True) if value == 1.0} == {6, 12}
    assert sum(vector) == 2
    assert action_unit_vector(()) == (0.0,) * len(ACTION_UNITS)


def test_every_emotion_has_a_vote_column():
    assert set(EMOTIONS) < set(VOTE_COLUMNS)
    assert len(set(VOTE_COLUMNS)) == 10


def test_regions_fit_into_the_bits_of_a_byte():
    assert len(set(REGIONS)) == len(REGIONS) <= 8
