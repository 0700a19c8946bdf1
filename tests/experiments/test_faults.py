"""Faults of a sweep, each made for real: finished runs stay whole, and the rest is run again or told."""

import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dask
import pandas as pd
import psutil
import pytest
from distributed import Client
from farm import Experiment, farm, gone, kill_family, none_left, wait_until

import fer_helpers
from fer_helpers.experiments.sweeps import Cluster, Limits
from fer_helpers.files import FerError, read_json

pytestmark = pytest.mark.slow
SLOWLY = "time.sleep(600)"


def started(function, *arguments):
    """A sweep that goes on while the test breaks things."""
    return ThreadPoolExecutor(1).submit(function, *arguments)


def all_finished(of: Experiment, table: pd.DataFrame) -> None:
    assert set(table["status"]) <= {"finished", "skipped"} and len(table) == len(of.seeds)
    assert of.intact() == set(of.seeds) and not of.leftovers()
    assert table["test_accuracy"].notna().all() and (of.store / "sweep.csv").exists()


def wait_for_workers(cluster, count: int) -> None:
    """So many, no more: the scheduler learns a moment later that one was killed."""
    with Client(cluster.address, set_as_default=False) as client:
        wait_until(lambda: len(client.scheduler_info(n_workers=-1)["workers"]) == count)


# --- what a notebook may do ---

@pytest.mark.nightly
def test_notebooks_that_raise_or_die_are_tried_again_unless_that_is_hopeless(experiment):
    own = experiment(
        6, seed0=["raise ValueError('once')"], seed1=["raise ValueError('always')"] * 9, seed2=["os._exit(3)"],
        seed3=["os.kill(os.getppid(), 9); time.sleep(600)"],
        seed4=["class FerError(Exception): pass\nraise FerError('hopeless')"] * 9, seed5=["folder = store / 'else'"])
    table = own.sweep(Cluster(jobs=2, retries=1))
    assert own.intact() == {0, 2, 3} == set(table.index[table["status"] == "finished"])
    assert [len(own.tries(seed)) for seed in own.seeds] == [2, 2, 2, 2, 1, 1]
    for seed, reason in {1: "ValueError: always", 4: "FerError: hopeless",
                         5: "give all machines the same data and store"}.items():
        assert table.loc[seed, "status"] == "failed" and reason in table.loc[seed, "error"]
        assert reason in read_json(own.store / own.runs[seed] / "failure.json", "")["error"]
    assert not own.leftovers()
    none_left(own)


def test_notebooks_that_hang_or_eat_memory_are_ended_alone(experiment):
    own = experiment(3, seed0=[SLOWLY], seed1=["kept = bytearray(3 * 2**30)\ntime.sleep(600)"])
    table = own.sweep(Cluster(jobs=3, retries=0), Limits(memory=2**30, seconds=40))
    assert list(table["status"]) == ["failed", "failed", "finished"]
    assert "took longer than 40 seconds" in table.loc[0, "error"]
    assert "MemoryError" in table.loc[1, "error"] and "1.00 GiB allowed; raise the limit" in table.loc[1, "error"]
    none_left(own)
    all_finished(own, own.sweep())


# --- workers, schedulers, clients ---

@pytest.mark.cluster
def test_the_run_of_a_killed_worker_is_done_by_another(experiment, tmp_path):
    own = experiment(4, seed0=[SLOWLY], seed1=[SLOWLY])
    with farm(tmp_path) as (cluster, _):
        sweep = started(own.sweep, Cluster(cluster.address))
        for seed in (0, 1):
            kernel, papermill = own.wait_for_try(seed)
            psutil.Process(papermill).parent().kill()
            wait_until(lambda kernel=kernel, papermill=papermill: gone(kernel) and gone(papermill))
        cluster.add_worker()  # the only one
        all_finished(own, sweep.result(120))
    assert [len(own.tries(seed)) for seed in own.seeds] == [2, 2, 1, 1]


@pytest.mark.nightly
@pytest.mark.cluster
def test_a_scheduler_that_goes_away_ends_the_sweep_which_then_goes_on_elsewhere(experiment, tmp_path):
    own = experiment(2, seed0=[], seed1=[SLOWLY])
    with farm(tmp_path, workers=1) as (cluster, _):
        sweep = started(own.sweep, Cluster(cluster.address))
        own.wait_for_try(1)
        cluster.scheduler.kill()
        with pytest.raises(FerError, match="the scheduler is gone; what is finished is in the store"):
            sweep.result(120)
        none_left(own)
    all_finished(own, own.sweep())
    assert len(own.tries(0)) == 1


def interrupted(own: Experiment, number: int, *options: object) -> None:
    # A shell lets what it starts in the background ignore SIGINT; SIGTERM must end it all the same.
    command = own.command(*options, background=number == signal.SIGTERM)
    own.wait_for_try(1)
    own.wait_for_try(2)
    command.send_signal(number)
    _, said = command.communicate(timeout=240)  # to tell what is finished it imports torch, which others may do, too
    assert command.returncode == (-9 if number == signal.SIGKILL else 130), said
    none_left(own)
    assert own.intact() == {0} and not own.leftovers()
    if number != signal.SIGKILL:
        assert "interrupted" in said and "Traceback" not in said
        assert list(pd.read_csv(own.store / "sweep.csv")["status"]) == ["finished", "cancelled", "cancelled"]
    table = own.sweep()
    all_finished(own, table)
    assert list(table["status"]) == ["skipped", "finished", "finished"]


@pytest.mark.nightly
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
def test_a_client_that_ends_takes_its_notebooks_along_and_goes_on_later(number, experiment):
    interrupted(experiment(3, seed0=[], seed1=[SLOWLY], seed2=[SLOWLY]), number, "--jobs", 2)


@pytest.mark.nightly
@pytest.mark.cluster
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_it_does_on_a_cluster_too(number, experiment, tmp_path):
    with farm(tmp_path) as (cluster, _):
        interrupted(experiment(3, seed0=[], seed1=[SLOWLY], seed2=[SLOWLY]), number, "--scheduler", cluster.address)


# --- workers that must not do it ---

@pytest.fixture
def other_package(tmp_path) -> Path:
    """The package as another version of it would be."""
    shutil.copytree(Path(fer_helpers.__file__).parent, tmp_path / "other" / "fer_helpers")
    with (tmp_path / "other" / "fer_helpers" / "training" / "losses.py").open("a") as file:
        file.write("# changed\n")
    return tmp_path / "other"


@pytest.mark.cluster
def test_workers_with_another_package_or_without_what_a_run_takes_are_refused(experiment, tmp_path, other_package):
    own = experiment(2)
    with farm(tmp_path, workers=0) as (cluster, _):
        sweep = started(own.sweep, Cluster(cluster.address))
        other = cluster.add_worker("--no-nanny", PYTHONPATH=str(other_package))
        table = sweep.result(120)  # it came when the sweep was under way
        assert set(table["status"]) == {"failed"} and table["error"].str.contains("install the same").all()
        with pytest.raises(FerError, match="worker tcp://.* has fer_helpers .* install the same on all machines"):
            own.sweep(Cluster(cluster.address))
        kill_family(other.pid)
        wait_for_workers(cluster, 0)  # while there is none, a sweep waits for one
        cluster.add_worker()
        wait_for_workers(cluster, 1)
        with pytest.raises(FerError, match='--resources "GPU=1"'):
            own.sweep(Cluster(cluster.address, resources={"GPU": 1}))
        cluster.add_worker("--no-nanny", "--resources", "GPU=1")
        wait_for_workers(cluster, 2)
        all_finished(own, own.sweep(Cluster(cluster.address, resources={"GPU": 1})))


def test_a_scheduler_that_is_none_is_named(experiment):
    with dask.config.set({"distributed.comm.timeouts.connect": "1s"}), \
            pytest.raises(FerError, match="tcp://127.0.0.1:9: no Dask scheduler answers .* start one with"):
        experiment(1).sweep(Cluster("tcp://127.0.0.1:9"))


# --- the store ---

@pytest.mark.parametrize("full_disk", ["1m"], indirect=True)
def test_a_full_disk_loses_no_finished_run(full_disk, experiment):
    own = experiment(2, seed1=["(store / 'big').write_bytes(bytes(10**9))"])
    own.move(full_disk / "store")
    with pytest.warns(UserWarning, match=r"sweep.csv: No space left .* free some space"):
        table = own.sweep(Cluster(jobs=1, retries=0))
    assert own.intact() == {0} == set(table.index[table["status"] == "finished"])
    assert table.loc[1, "status"] == "failed" and "space" in table.loc[1, "error"]
    (own.store / "big").unlink()
    all_finished(own, own.sweep(Cluster(jobs=1)))


def test_damaged_results_are_told_not_counted(experiment):
    own = experiment(3)
    for name in own.runs.values():
        shutil.copytree(own.template.folder, own.store / name, ignore=shutil.ignore_patterns("weights.safetensors"))
    all_finished(own, own.sweep())
    (own.store / own.runs[0] / "metrics.json").write_text("")
    (own.store / own.runs[1] / "metrics.json").write_text('{"val": {}}')
    table = own.sweep()
    assert list(table["status"]) == ["failed", "failed", "skipped"]
    assert table.loc[:1, "error"].str.contains("metrics.json.*move the run's folder").all()
