"""Settings mean the same however they are written: text or numbers of a command line, a plan, papermill."""

import dataclasses
import re

import pytest
import yaml

from fer_helpers.files import FerError
from fer_helpers.models.factory import list_models
from fer_helpers.models.heads import HEADS
from fer_helpers.training.config import CHOICES, KINDS, RANGES, TrainConfig, read_value
from fer_helpers.training.methods import configure
from fer_helpers.training.settings import explain_settings, notebook_parameters, read_settings
from fer_helpers.transforms.augmentation import EXTRAS, POLICIES, TTA


@pytest.mark.parametrize(("text", "value"), [
    ("1e-3", 0.001), ("-2.5E2", -250.0), ("3", 3), ("3.0", 3.0), ("true", True), ("Yes", True), ("ON", True),
    ("FALSE", False), ("no", False), ("off", False), ("null", None), ("None", None), ("vgg16", "vgg16"), ("e", "e"),
    ("[1e-3, 1e-2]", [0.001, 0.01]), ('["a", "b"]', ["a", "b"]), ("{lr: 1e-3}", {"lr": 0.001}),
    ('{"lr": 1e-3}', {"lr": 0.001}), ("2020-01-01", "2020-01-01"), ("[1", "[1"), ("!!python/name:os.system", None)])
def test_a_text_means_what_yaml_and_json_say(text, value):
    found = read_value(text)
    assert found == (text if text.startswith("!!") else value) and type(found) is type(text if value is None
                                                                                       and text[0] == "!" else value)


@pytest.mark.parametrize(("name", "written", "value"), [
    ("arch", "ResNet50", "resnet50"), ("optimizer", "SGD", "sgd"), ("schedule", "OneCycle", "onecycle"),
    ("augmentation", "Flip+Hide", "flip+hide"), ("train_set", "Without-Fear", "without-fear"), ("tta", "None", "none"),
    ("epochs", "3", 3), ("epochs", 3.0, 3), ("epochs", "3.0", 3), ("lr", "1e-3", 0.001), ("lr", 1, 1.0),
    ("lr", "none", 0.05), ("classes", "7", 7), ("classes", "8", 8), ("classes", "Sad+happy", "happiness+sadness"),
    ("classes", "data", "data"), ("classes", "angry+fear+happy", 3),
    ("classes", 6.0, 6), ("cbam", "off", False), ("cbam", "Yes", True),
    ("drop_last", 0, False), ("patience", "null", None), ("patience", "None", None), ("teacher", "none", None),
    ("train_limit", "6e3", 6000), ("seed", "7", 7)])
def test_a_setting_is_read_alike_wherever_it_stands(name, written, value):
    assert getattr(TrainConfig(**{name: written}), name) == value
    assert type(getattr(TrainConfig(**{name: written}), name)) is type(value)
    assert configure({name: written}) == TrainConfig(**{name: value})
    if isinstance(written, str):
        assert configure({key: one for key, (one,) in read_settings([f"{name}={written}"]).items()}) == TrainConfig(
            **{name: value})
        planned = yaml.safe_load(f"{name}: [{written}]")[name][0]  # as a plan of a sweep gives it
        assert configure({name: planned}) == TrainConfig(**{name: value})


def test_a_method_is_named_in_any_case():
    assert configure({"method": "SupCon"}) == configure({"method": "supcon"}) != TrainConfig()


@pytest.mark.parametrize(("name", "written"), [("epochs", "ten"), ("epochs", "2.5"), ("cbam", "maybe"), ("lr", "[1]"),
                                               ("epochs", True), ("seed", "none"), ("lr", "inf"), ("lr", "nan")])
def test_what_means_nothing_is_refused_in_one_line_that_names_it(name, written):
    with pytest.raises(FerError, match=f"{name}=") as raised:
        TrainConfig(**{name: written})
    assert "\n" not in str(raised.value)


def test_names_of_classes_are_one_setting_and_numbers_are_several():
    assert read_settings(["classes=anger,happy,sad"]) == {"classes": ["anger+happy+sad"]}
    assert read_settings(["classes=3,anger+fear"]) == {"classes": [3, "anger+fear"]}
    assert TrainConfig(classes=["sad", "angry"]) == TrainConfig(classes="anger+sadness")


def test_pairs_are_lists_and_brackets_are_one_value():
    assert read_settings(["lr=1e-3,1e-2", "arch=VGG16,compact", "archs=[a, b]", "x={a: 1}", "record=no", "data=a=b"]) \
        == {"lr": [0.001, 0.01], "arch": ["vgg16", "compact"], "archs": [["a", "b"]], "x": [{"a": 1}],
            "record": [False], "data": ["a=b"]}


@pytest.mark.parametrize(("pairs", "message"), [(["epochs=1", "lr=1", "epochs=2"], "epochs is given twice"),
                                                (["epochs"], "KEY=VALUE"), (["=3"], "KEY=VALUE")])
def test_pairs_that_are_none_or_stand_there_twice_are_refused(pairs, message):
    with pytest.raises(FerError, match=message):
        read_settings(pairs)


def test_parameters_that_papermill_gave_as_text_become_what_they_mean():
    cells = {"record": "false", "archs": "[ResNet50, VGG16]", "rates": '["1e-3", 2]', "settings": '{"lr": "1e-3"}',
             "epochs": "3.0", "arch": "VGG16", "grid_arch": "Compact", "grid_limit": "none", "seeds": "2",
             "data": "2020", "other": "off", "method": "SupCon"}
    notebook_parameters(cells, record=bool, archs=["arch"], rates=["lr"], grid_arch="arch", grid_limit="train_limit",
                        seeds=int)
    assert cells == {"record": False, "archs": ["resnet50", "vgg16"], "rates": [0.001, 2.0], "settings": {"lr": "1e-3"},
                     "epochs": 3, "arch": "vgg16", "grid_arch": "compact", "grid_limit": None, "seeds": 2,
                     "data": "2020", "other": "off", "method": "supcon"}
    before = {"record": True, "archs": ["vgg16"], "settings": {}, "epochs": 3, "lr": None}
    cells = dict(before)
    notebook_parameters(cells, record=bool, archs=["arch"])
    assert cells == before


@pytest.mark.parametrize(("name", "value", "kind", "message"), [
    ("record", "maybe", bool, r"record='maybe' must be true or false; .*papermill as -y '\{record: true\}'"),
    ("record", 2, bool, "record=2"), ("archs", "vgg16", ["arch"], r"archs='vgg16' must be a list; .*-y '\{archs: "),
    ("settings", "x", dict, "settings='x' must be a mapping"), ("seeds", "many", int, "seeds='many'"),
    ("seeds", True, int, "seeds=True")])
def test_a_parameter_that_means_nothing_of_its_kind_is_named_with_the_way_to_give_it(name, value, kind, message):
    with pytest.raises(FerError, match=message):
        notebook_parameters({name: value}, **{name: kind})


def test_every_setting_is_explained_with_its_default_and_its_range():
    lines = {line.partition("=")[0]: line for line in explain_settings()[:-1]}
    assert list(lines) == [field.name for field in dataclasses.fields(TrainConfig)] == list(KINDS)[1:]
    for field in dataclasses.fields(TrainConfig):
        name, default = field.name, field.default
        assert re.match(rf"{name}={re.escape(str(default))}[;:]", lines[name])
        assert len(lines[name].partition(": ")[2]) > 10
        if name in RANGES:
            assert "{:.10g} to {:.10g}".format(*RANGES[name]) in lines[name]
    named = CHOICES | {"arch": list_models(), "head": HEADS, "tta": TTA,
                       "augmentation": [*POLICIES, *(f"+{extra}" for extra in EXTRAS)]}
    assert {name: left for name, values in named.items()
            if (left := [value for value in values if f'"{value}"' not in lines[name]])} == {}
