"""What has to hold on real photographs; skipped where FER_DATA is not set."""

from fer_helpers.data.readers import load_faces
from fer_helpers.training.config import TrainConfig
from fer_helpers.training.runs import load_runs, train_run


def test_a_small_network_learns_from_real_faces_and_is_evaluated_on_both_tests(real_data, tmp_path):
    faces = load_faces(progress=False)
    config = TrainConfig(arch="simple_cnn", optimizer="adam", lr=1e-3, train_limit=2400, epochs=2, batch_size=32,
                         augmentation="flip")
    run = train_run(config, faces, tmp_path, progress=False)
    assert all(run.metrics[split].accuracy.low > run.metrics[split].majority.high for split in ("test", "clean_test"))
    assert run.metrics["clean_test"].count < run.metrics["test"].count == (faces.with_classes(6).split == "test").sum()
    assert load_runs(tmp_path).loc[run.name, "data_fingerprint"] == faces.fingerprint
