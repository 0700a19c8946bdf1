"""Faults of a sweep, each made for real: finished runs stay whole, and the rest is run again or told."""

import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import psutil
import pytest
from farm import Experiment, farm, gone, kill_family, none_left, sweep_command, wait_until

import fer_helpers
from fer_helpers.experiments import sweeps
from fer_helpers.experiments.sweeps import Cluster, Limits
from fer_helpers.files import FerError, read_json
from fer_helpers.training.runs import Run

SLOWLY = "time.sleep(600)"
A_MOMENT = "time.sleep(3)"
QUICK = pytest.mark.usefixtures("without_pause")


@pytest.fixture
def without_pause(monkeypatch):
    monkeypatch.setattr(sweeps, "PAUSE", 0.1)


def started(function, *arguments):
    """A sweep that goes on while the test breaks things."""
    return ThreadPoolExecutor(1).submit(function, *arguments)


def all_finished(of: Experiment, table: pd.DataFrame) -> None:
    assert set(table["status"]) <= {"finished", "skipped"} and len(table) == len(of.seeds)
    assert of.intact() == set(of.seeds) and not of.leftovers()
    assert table["test_accuracy"].notna().all() and (of.store / "sweep.csv").exists()


# --- what a notebook may do ---

@QUICK
def test_notebooks_that_raise_or_die_are_tried_again_unless_that_is_hopeless(experiment):
    own = experiment(
        6, seed0=["raise ValueError('once')"], seed1=["raise ValueError('always')"] * 9, seed2=["os._exit(3)"],
        seed3=["os.kill(os.getppid(), 9); time.sleep(600)"],
        seed4=["class FerError(Exception): pass\nraise FerError('hopeless')"] * 9)
    table = own.sweep(Cluster(jobs=2, retries=1))
    assert own.intact() == {0, 2, 3, 5} == set(table.index[table["status"] == "finished"])
    assert list(table["tries"]) == [2, 2, 2, 2, 1, 1]
    for seed, reason in {1: "ValueError: always", 4: "FerError: hopeless"}.items():
        assert table.loc[seed, "status"] == "failed" and reason in table.loc[seed, "error"]
        assert reason in read_json(own.store / own.runs[seed] / "failure.json", "")["error"]
    assert not own.leftovers()
    none_left(own)


def test_notebooks_that_hang_or_eat_memory_are_ended(experiment):
    hog = "kept = bytearray(3 * 2**30)\nfor place in range(0, len(kept), 4096): kept[place] = 1\ntime.sleep(600)"
    child = f"subprocess.run([sys.executable, '-c', {('import time' + chr(10) + hog)!r}])"
    own = experiment(3, seed0=[SLOWLY], seed1=[hog], seed2=[child])
    table = own.sweep(Cluster(jobs=3, retries=0), Limits(memory=2**30, seconds=40))
    assert set(table["status"]) == {"failed"} and list(table["tries"]) == [1, 1, 1]
    assert "took longer than 40 seconds" in table.loc[0, "error"]
    assert table.loc[1:, "error"].str.contains("GiB of memory, more than the 1.00 allowed").all()
    none_left(own)
    all_finished(own, own.sweep())


# --- workers, schedulers, clients ---

def test_killed_workers_are_replaced_and_their_runs_done_again(experiment):
    """Those of this machine: each of three runs loses its worker once."""
    own = experiment(5, seed0=[SLOWLY], seed2=[SLOWLY], seed4=[SLOWLY])
    sweep = started(own.sweep)
    for seed in (0, 2, 4):
        kernel, papermill = own.wait_for_try(seed)
        worker = psutil.Process(papermill).parent()
        worker.kill()
        wait_until(lambda kernel=kernel, papermill=papermill: gone(kernel) and gone(papermill))
    table = sweep.result(120)
    all_finished(own, table)
    assert len(own.tries(1)) == len(own.tries(3)) == 1, "runs of other workers go on"


def test_the_death_of_the_only_worker_of_a_cluster_is_waited_out(experiment, tmp_path):
    own = experiment(2, seed0=[SLOWLY], seed1=[])
    with farm(tmp_path, workers=1) as (cluster, (worker,)):
        sweep = started(own.sweep, Cluster(cluster.address))
        own.wait_for_try(0)
        kill_family(worker.pid)
        cluster.add_worker()
        all_finished(own, sweep.result(120))


def test_a_killed_scheduler_is_found_again(experiment, tmp_path):
    own = experiment(4, seed0=[], seed1=[SLOWLY], seed2=[SLOWLY])
    with farm(tmp_path) as (cluster, _):
        sweep = started(own.sweep, Cluster(cluster.address))
        for seed in (1, 2):
            own.wait_for_try(seed)
            done = own.intact()
            cluster.scheduler.kill()
            cluster.scheduler.wait()
            cluster.start_scheduler()
            cluster.add_worker()
        table = sweep.result(120)
        all_finished(own, table)
        assert 0 in done and len(own.tries(0)) == 1, "what was finished is not run again"
        none_left(own)


def test_a_scheduler_that_stays_away_ends_the_sweep(experiment, tmp_path, monkeypatch):
    monkeypatch.setattr(sweeps, "RECONNECT", 1.0)
    own = experiment(1, seed0=[SLOWLY])
    with farm(tmp_path, workers=1) as (cluster, _):
        sweep = started(own.sweep, Cluster(cluster.address))
        own.wait_for_try(0)
        cluster.scheduler.kill()
        with pytest.raises(FerError, match="the scheduler is gone"):
            sweep.result(120)
    none_left(own)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_a_client_that_ends_takes_its_notebooks_along_and_goes_on_later(number, experiment):
    own = experiment(3, seed0=[], seed1=[SLOWLY], seed2=[SLOWLY])
    command = own.command("--jobs", 2)
    own.wait_for_try(1)
    own.wait_for_try(2)
    command.send_signal(number)
    _, said = command.communicate(timeout=60)
    assert command.returncode == (-9 if number == signal.SIGKILL else 130), said
    none_left(own)
    assert own.intact() == {0} and not own.leftovers()
    if number != signal.SIGKILL:
        assert "cancelled" in said and "Traceback" not in said
        assert list(pd.read_csv(own.store / "sweep.csv")["status"]) == ["finished", "cancelled", "cancelled"]
    table = own.sweep()
    all_finished(own, table)
    assert list(table["status"]) == ["skipped", "finished", "finished"]


def test_the_jobs_of_a_killed_client_end_on_a_cluster_too(experiment, tmp_path):
    own = experiment(2, seed0=[SLOWLY], seed1=[SLOWLY])
    with farm(tmp_path) as (cluster, _):
        command = own.command("--scheduler", cluster.address)
        own.wait_for_try(0)
        own.wait_for_try(1)
        command.kill()
        command.wait()
        none_left(own)
        all_finished(own, own.sweep(Cluster(cluster.address)))


# --- workers that must not do it ---

@pytest.fixture(scope="module")
def other_package(tmp_path_factory) -> Path:
    """The package as another version of it would be."""
    folder = tmp_path_factory.mktemp("other")
    shutil.copytree(Path(fer_helpers.__file__).parent, folder / "fer_helpers")
    with (folder / "fer_helpers" / "training" / "losses.py").open("a") as file:
        file.write("# changed\n")
    return folder


@QUICK
def test_a_worker_with_another_package_refuses(experiment, tmp_path, other_package):
    own = experiment(3)
    with farm(tmp_path, workers=0) as (cluster, _):
        cluster.add_worker("--no-nanny", PYTHONPATH=str(other_package))
        wait_for_workers(cluster, 1)
        with pytest.raises(FerError, match="no worker of .* has fer_helpers .* install the same on all machines"):
            own.sweep(Cluster(cluster.address))
        cluster.add_worker()
        wait_for_workers(cluster, 2)
        table = own.sweep(Cluster(cluster.address, retries=0))
        refused = table[table["status"] == "refused"]
        assert own.intact() == set(table.index[table["status"] == "finished"]) and len(own.intact()) + len(refused) == 3
        assert refused["error"].str.contains("install the same").all()
        all_finished(own, own.sweep(Cluster(cluster.address, retries=9)))


def test_resources_that_no_worker_offers_are_refused_and_offered_ones_kept_to(experiment, tmp_path):
    own = experiment(3, seed0=[A_MOMENT], seed1=[A_MOMENT], seed2=[A_MOMENT])
    with farm(tmp_path, workers=1) as (cluster, _):
        wait_for_workers(cluster, 1)
        with pytest.raises(FerError, match='--resources "GPU=1"'):
            own.sweep(Cluster(cluster.address, resources={"GPU": 1}))
        able = cluster.add_worker("--no-nanny", "--resources", "GPU=1")
        wait_for_workers(cluster, 2)
        all_finished(own, own.sweep(Cluster(cluster.address, resources={"GPU": 1})))
        del able


def test_a_scheduler_that_is_none_is_named(experiment):
    with pytest.raises(FerError, match="tcp://127.0.0.1:9: no Dask scheduler answers .* start one with"):
        experiment(1).sweep(Cluster("tcp://127.0.0.1:9"))


# --- the store ---

@pytest.mark.parametrize("full_disk", ["1m"], indirect=True)
@QUICK
def test_a_full_disk_loses_no_finished_run(full_disk, experiment):
    own = experiment(4, seed2=["(store / 'big').write_bytes(bytes(10**9))"] * 2)
    own.move(full_disk / "store")
    with pytest.warns(UserWarning, match=r"sweep.csv: No space left .* free some space"):
        table = own.sweep(Cluster(jobs=1, retries=1))
    assert {0, 1} <= own.intact() == set(table.index[table["status"] == "finished"])
    assert table.loc[2, "status"] == "failed" and "space" in table.loc[2, "error"]
    (own.store / "big").unlink()
    all_finished(own, own.sweep(Cluster(jobs=1)))


@QUICK
def test_folders_that_vanish_and_stores_that_lie_elsewhere(experiment):
    own = experiment(2, seed0=["shutil.rmtree(folder)\nraise OSError('gone')"],
                     seed1=["folder = store / 'elsewhere'"] * 9)
    table = own.sweep(Cluster(jobs=1, retries=1))
    assert table.loc[0, "status"] == "finished" and table.loc[0, "tries"] == 2
    assert table.loc[1, "status"] == "failed" and "give all machines the same data and store" in table.loc[1, "error"]


def test_damaged_results_are_told_not_counted(experiment):
    own = experiment(3)
    all_finished(own, own.sweep())
    (own.store / own.runs[0] / "metrics.json").write_text("")
    (own.store / own.runs[1] / "metrics.json").write_text('{"val": {}}')
    table = own.sweep()
    assert list(table["status"]) == ["failed", "failed", "skipped"]
    assert table.loc[:1, "error"].str.contains("metrics.json.*move the run's folder").all()


def test_two_sweeps_on_one_store_train_each_run_once(folder, tmp_path, short_workhorse):
    """The real notebook: the second waits for what the first trains."""
    grid = ["arch=simple_cnn", "seed=0,1", "epochs=1", "train_limit=128", "batch_size=32"]
    own = [sweep_command(short_workhorse, folder, tmp_path / "store", *grid, "--jobs", 2) for _ in range(2)]
    ends = [(command.communicate(timeout=200), command.returncode) for command in own]
    assert [code for _, code in ends] == [0, 0], ends
    runs = [Run(path.parent) for path in (tmp_path / "store").glob("*/metrics.json")]
    assert len(runs) == 2 and not list((tmp_path / "store").glob("*/lease"))
    assert all(len(run.history) == 1 for run in runs)


def wait_for_workers(cluster, count: int) -> None:
    from distributed import Client

    with Client(cluster.address, set_as_default=False) as client:
        client.wait_for_workers(count, timeout=60)
