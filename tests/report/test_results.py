import numpy as np
import pandas as pd
import pytest
from conftest import easy_faces

from fer_helpers.data.synthetic import make_faces
from fer_helpers.files import FerError
from fer_helpers.report import results
from fer_helpers.training.config import TrainConfig
from fer_helpers.training.runs import train_run

TABLE = pd.DataFrame({"value": [1 / 3, np.nan], "finding": ["a refuge", ""], "sure": [True, False]},
                     index=pd.Index(["all", "none"], name="region"))


@pytest.fixture
def kept(tmp_path):
    settings = {"arch": "compact", "archs": ["a", "b"], "train_limit": None}
    results.keep("05_class_ambiguity", easy_faces(train=4, test=2), settings,
                 {"pairs": TABLE, "plain": TABLE.reset_index(drop=True)}, folder=tmp_path)
    return tmp_path


def test_tables_come_back_as_they_were(kept):
    found = results.recall("05_class_ambiguity", folder=kept)
    pd.testing.assert_frame_equal(found["pairs"].fillna({"finding": ""}), TABLE, rtol=1e-5)
    assert list(found["plain"].index) == [0, 1] and found.images["test"] == 14
    assert found.command == ("papermill notebooks/05_class_ambiguity.ipynb out.ipynb -p data path/to/easy faces "
                             "-p record True -p arch compact -y '{archs: [\"a\", \"b\"]}' -p train_limit None")
    assert found.runs.empty
    assert found.command in found.origin()


def test_keeping_again_replaces_everything(kept):
    results.keep("05_class_ambiguity", easy_faces(train=4, test=2), {}, {"pairs": TABLE.head(1)}, folder=kept)
    found = results.recall("05_class_ambiguity", folder=kept)
    assert list(found.tables) == ["pairs"] and len(found["pairs"]) == 1
    with pytest.raises(FerError, match="'plain'.*only pairs"):
        found["plain"]


def test_a_record_of_other_data_is_replaced_only_by_force(kept):
    other, tables = easy_faces(train=5, test=2), {"pairs": TABLE.head(1)}
    with pytest.raises(FerError, match="05_class_ambiguity: holds what was measured on .*force=True"):
        results.keep("05_class_ambiguity", other, {}, tables, folder=kept)
    assert len(results.recall("05_class_ambiguity", folder=kept)["pairs"]) == 2
    results.keep("05_class_ambiguity", other, {}, tables, folder=kept, force=True)
    assert len(results.recall("05_class_ambiguity", folder=kept)["pairs"]) == 1


def test_runs_are_kept_beside_the_tables_of_their_part(tmp_path):
    faces = easy_faces(train=12, test=2)
    runs = [train_run(TrainConfig(arch="simple_cnn", classes=7, epochs=1, batch_size=8, seed=seed), faces, tmp_path,
                      progress=False) for seed in (0, 1)]
    results.keep("03_architectures", faces, {}, {}, runs, "7_classes", tmp_path)
    assert set(results.recall("03_architectures", "7_classes", tmp_path).runs.index) == {run.name for run in runs}
    results.keep("03_architectures", faces, {}, {}, runs[:1], "7_classes", tmp_path)
    assert list(results.recall("03_architectures", "7_classes", tmp_path).runs.index) == [runs[0].name]


def test_what_is_not_recorded_or_damaged_is_named(kept):
    with pytest.raises(FerError, match=r"06_failure_analysis/about\.json: is missing; run that notebook on"):
        results.recall("06_failure_analysis", folder=kept)
    (kept / "05_class_ambiguity" / "pairs.csv").write_text("")
    with pytest.raises(FerError, match="05_class_ambiguity: its recorded findings are damaged"):
        results.recall("05_class_ambiguity", folder=kept)


def test_drawn_faces_and_tables_that_no_csv_can_hold_are_refused(tmp_path):
    with pytest.raises(FerError, match="only findings on photographs"):
        results.keep("05_class_ambiguity", make_faces(14, test=14), {}, {"pairs": TABLE}, folder=tmp_path)
    for tables in ({"../pairs": TABLE}, {"pairs": TABLE.set_index("value", append=True)}):
        with pytest.raises(FerError, match="cannot be kept as csv"):
            results.keep("05_class_ambiguity", easy_faces(train=4, test=2), {}, tables, folder=tmp_path)
    assert not list(tmp_path.iterdir())
