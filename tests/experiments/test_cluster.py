"""The recipes of docs/clusters.md, each carried out on one machine: only the way to other machines is a stand-in."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from farm import Experiment, Farm, free_port, kill_family

GUIDE = (Path(__file__).parents[2] / "docs" / "clusters.md").read_text(encoding="utf-8")
BIN = Path(sys.executable).parent
pytestmark = [pytest.mark.cluster, pytest.mark.slow]


def block(language: str, holding: str) -> str:
    return next(text for text in re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL) if holding in text)


@pytest.fixture
def own(experiment, tmp_path) -> Experiment:
    """Two runs, the plan of which lies beside the notebooks."""
    made = experiment(2)
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump({"grid": made.axes}))
    return made


@pytest.fixture
def here(own, tmp_path):
    """A recipe as it is for this machine."""
    port = str(free_port())

    def translate(recipe: str) -> str:
        for there, place in {"/shared/fer2013": str(own.data), "/shared/runs": str(own.store), "8786": port,
                             "/shared/fer_helpers/.venv/bin/dask": str(BIN / "dask"),
                             "fer-scheduler:": "127.0.0.1:", "node2": "localhost", "node1": "127.0.0.1"}.items():
            recipe = recipe.replace(there, place)
        return recipe

    return translate


@pytest.fixture
def run(tmp_path):
    """Runs a command in a session of its own, with stand-ins found first, and ends all that it started."""
    (tmp_path / "bin").mkdir()
    processes = []

    def start(command: list[str], wait: bool = True, **environment: str) -> int:
        process = subprocess.Popen(command, cwd=tmp_path, start_new_session=True, env=os.environ | environment | {
            "PATH": f"{tmp_path / 'bin'}:{BIN}:{os.environ['PATH']}", "TQDM_DISABLE": "1",
            "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "120s"})
        processes.append(process)
        return process.wait(300) if wait else 0

    yield start
    for process in processes:
        subprocess.run(["pkill", "-KILL", "-s", str(process.pid)], check=False)
        kill_family(process.pid)


def stand_in(tmp_path: Path, name: str, script: str) -> None:
    path = tmp_path / "bin" / name
    path.write_text(f"#!/bin/bash\n{script}\n")
    path.chmod(0o755)


def finished(own: Experiment) -> None:
    table = pd.read_csv(own.store / "sweep.csv")
    assert list(table["status"]) == ["finished"] * 2 and own.intact() == {0, 1}


def test_ssh(own, here, run, tmp_path):
    stand_in(tmp_path, "ssh", 'shift; exec bash -c "$*"')
    assert run(["bash", "-c", here(block("bash", "ssh"))]) == 0
    finished(own)


@pytest.mark.nightly
def test_slurm(own, here, run, tmp_path):
    (tmp_path / "dask").mkdir()
    (tmp_path / "dask" / "jobqueue.yaml").write_text(here(block("yaml", "jobqueue")))
    (tmp_path / "on_slurm.py").write_text(block("python", "SLURMCluster").replace("jobs=8", "jobs=1"))
    # The job's script is kept, to be looked at.
    stand_in(tmp_path, "sbatch", f'cp "$1" {tmp_path}/job.sh; bash {tmp_path}/job.sh >/dev/null 2>&1 &\n'
                                 'echo Submitted batch job $!')
    stand_in(tmp_path, "scancel", 'kill "$@"')
    command = re.search(r"`python (on_slurm.py .*?)`", GUIDE)[1]
    assert run([sys.executable, *here(command).split()], DASK_CONFIG=str(tmp_path / "dask")) == 0
    finished(own)
    job = (tmp_path / "job.sh").read_text()
    for line in ("#SBATCH -p gpu", "#SBATCH --cpus-per-task=8", "#SBATCH --gpus=1", "#SBATCH -t 08:00:00"):
        assert line in job
    assert "--nthreads 1" in job and "--resources GPU=1" in job


@pytest.mark.nightly
def test_kubernetes(own, here, run, tmp_path):
    documents = list(yaml.safe_load_all(here(block("yaml", "Deployment"))))
    assert [one["kind"] for one in documents] == ["Deployment", "Service", "Deployment", "Job"]
    scheduler, service, worker, sweep = documents
    pods = [one["spec"]["template"] for one in (scheduler, worker, sweep)]
    for one, pod in zip((scheduler, worker), pods, strict=False):
        assert one["spec"]["selector"]["matchLabels"] == pod["metadata"]["labels"]
    assert service["spec"]["selector"] == pods[0]["metadata"]["labels"]
    for pod in pods[1:]:  # data and store lie under the same path
        spec, = pod["spec"]["containers"]
        assert [place["name"] for place in spec["volumeMounts"]] == [place["name"] for place in pod["spec"]["volumes"]]
        assert spec["volumeMounts"][0]["mountPath"] == "/shared"
    commands = [pod["spec"]["containers"][0]["command"] for pod in pods]
    for command in commands[:2]:
        run(command, wait=False)
    Farm.wait_for(f"tcp://127.0.0.1:{service['spec']['ports'][0]['port']}")
    assert run(commands[2]) == 0
    finished(own)
