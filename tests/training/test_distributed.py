"""Two processes on loopback train what one process trains."""

import json
import os
import signal
import subprocess
import sys
import time
from multiprocessing.context import BaseContext
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.numpy
import torch
from conftest import easy_faces, fer_here
from corpus import csv_text
from farm import free_port
from ranks import command_of_rank

from fer_helpers.data.readers import map_faces
from fer_helpers.files import FerError
from fer_helpers.training.config import TrainConfig
from fer_helpers.training.distributed import DistributedContext, current_context
from fer_helpers.training.trainer import check_shareable

SETTINGS = ["lr=0.01", "batch_size=32", "precision=fp32", "augmentation=standard"]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A few easy faces as Kaggle's CSV: quick to read in each of many processes."""
    faces, path = easy_faces(train=24, test=4), tmp_path_factory.mktemp("data") / "fer2013.csv"
    usage = [{"train": "Training", "test": "PublicTest"}[split] for split in faces.split]
    path.write_text(csv_text(faces.images.numpy(), faces.labels.numpy(), usage))
    return path


def command(data: Path, store: Path, *settings: str) -> list[str]:
    last = {setting.partition("=")[0]: setting for setting in (*SETTINGS, *settings)}
    return ["train", *last.values(), "--data", str(data), "--store", str(store)]


def alone(data: Path, store: Path, *settings: str) -> Path:
    """The run of one process, which is this one."""
    done = fer_here(*command(data, store, *settings), cwd=store.parent)
    assert done.exit_code == 0, done.output
    return Path(done.stdout.splitlines()[0])


def together(context: BaseContext, data: Path, store: Path, *settings: str) -> Path:
    """The run of two processes, which need not wait for Python and torch."""
    port = free_port()
    processes = [context.Process(target=command_of_rank, args=(rank, port, command(data, store, *settings)))
                 for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
    assert [process.exitcode for process in processes] == [0, 0]
    run, = store.iterdir()
    return run


def launch(data: Path, store: Path, *settings: str) -> subprocess.Popen:
    """The same under torchrun."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python",
                str(Path(sys.executable).with_name("fer"))]
    # One thread each: threads of two processes on two cores only wait for one another.
    return subprocess.Popen([*torchrun, *command(data, store, *settings)], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})


def finish(process: subprocess.Popen) -> Path:
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return Path(out.splitlines()[0])


@pytest.mark.parametrize(("settings", "tolerance"), [
    (["arch=simple_cnn", "epochs=4"], 1e-5),
    # Batch normalisation over few images multiplies rounding errors by ten or more a step: look at the first two.
    (["arch=compact", "epochs=1", "batch_size=64", "accumulate=2", "ema=0.9"], 1e-4)], ids=["plain", "batch_norm"])
def test_two_processes_train_what_one_trains(settings, tolerance, data, tmp_path, clean_server):
    one, two = alone(data, tmp_path / "1", *settings), together(clean_server, data, tmp_path / "2", *settings)
    assert one.name == two.name
    assert sorted(p.name for p in two.iterdir()) == sorted(p.name for p in one.iterdir())
    weights = [safetensors.numpy.load_file(folder / "weights.safetensors") for folder in (one, two)]
    for name, value in weights[0].items():
        np.testing.assert_allclose(weights[1][name], value, atol=tolerance, err_msg=name)
    history = [pd.read_csv(folder / "history.csv").drop(columns="seconds") for folder in (one, two)]
    np.testing.assert_allclose(history[1], history[0], rtol=100 * tolerance)
    assert [json.loads((folder / "environment.json").read_text())["processes"] for folder in (one, two)] == [1, 2]


@pytest.mark.nightly
@pytest.mark.slow
def test_two_processes_train_from_disk_what_one_trains_from_memory(data, tmp_path):
    on_disk = Path(map_faces(data, tmp_path / "mapped", progress=False).source)
    settings = ["arch=simple_cnn", "epochs=2", "accumulate=2"]
    one, two = alone(data, tmp_path / "1", *settings), finish(launch(on_disk, tmp_path / "2", *settings))
    assert one.name == two.name
    weights = [safetensors.numpy.load_file(folder / "weights.safetensors") for folder in (one, two)]
    for name, value in weights[0].items():
        np.testing.assert_allclose(weights[1][name], value, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("sign", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.nightly)],
                         ids=["lost", "told_to_stop"])
@pytest.mark.slow
def test_a_lost_process_ends_the_training_with_a_checkpoint_to_go_on_from(sign, data, tmp_path):
    process = launch(data, tmp_path, "arch=simple_cnn", "epochs=400")
    deadline = time.monotonic() + 120
    while not (found := list(tmp_path.glob("*/checkpoint.pt"))) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert found
    workers = [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    os.kill(max(workers), sign)
    _, err = process.communicate(timeout=300)
    assert process.returncode != 0
    assert "error: another process of this training was lost" in err
    assert "the same command goes on from there" in err
    state = torch.load(found[0], weights_only=True)
    assert 1 <= len(state["history"]) < 400
    assert not (found[0].parent / "metrics.json").exists()


@pytest.mark.nightly
@pytest.mark.slow
def test_a_batch_that_cannot_be_shared_is_refused(data, tmp_path):
    process = launch(data, tmp_path, "arch=simple_cnn", "batch_size=33")
    _, err = process.communicate(timeout=300)
    assert process.returncode != 0
    assert "error: batch_size=33 cannot be shared equally by 2 processes" in err


@pytest.mark.parametrize(("change", "reason"), [
    ({"batch_size": 33}, "batch_size=33 cannot be shared equally by 2 processes"),
    ({"contrast": 0.5}, "contrastive losses compare all images of a batch, which several processes share"),
    ({"drop_last": False}, "a smaller last batch cannot be shared equally; set drop_last to true or use one process")])
def test_what_several_processes_cannot_train_is_refused(change, reason):
    config = TrainConfig(arch="simple_cnn", **change)
    check_shareable(config, DistributedContext())
    with pytest.raises(FerError, match=reason):
        check_shareable(config, DistributedContext(0, 2))


def test_alone_there_is_one_process():
    values = torch.arange(5)
    assert current_context() == DistributedContext(0, 1)
    assert current_context().is_main
    assert torch.equal(current_context().shard(values), values)
    assert torch.equal(current_context().sum(values), values)


def test_shares_are_disjoint_and_cover_everything():
    values = torch.arange(7)
    shares = [DistributedContext(rank, 3).shard(values) for rank in range(3)]
    assert torch.equal(torch.cat(shares), values)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
