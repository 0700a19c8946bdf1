"""Leases: one holder at a time among processes that die, sleep, disagree about the time or find the disk full."""

import contextlib
import multiprocessing
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fer_helpers.files import FerError
from fer_helpers.training.leases import lease

QUICKLY = {"beat": 0.1, "patience": 1.0}
FOREVER = 600
STRANGER = "another-machine 1 0123 7"


def hold(path: Path, log: Path, seconds: float, patience: float = 1.0) -> None:
    """Hold the lease for a while, and note when."""
    with lease(path, beat=0.1, patience=patience) as held:
        assert held
        note(log, "in")
        time.sleep(seconds)
        note(log, "out")


def note(log: Path, what: str) -> None:
    with log.open("a") as file:
        file.write(f"{what} {os.getpid()}\n")


@contextlib.contextmanager
def holder(path: Path, log: Path, seconds: float = FOREVER):
    """A process of its own that holds the lease now."""
    process = multiprocessing.get_context("spawn").Process(target=hold, args=(path, log, seconds))
    process.start()
    try:
        while not log.exists():
            assert process.is_alive()
            time.sleep(0.01)
        yield process
    finally:
        process.kill()
        process.join()


def taken_after(path: Path) -> float:
    start = time.monotonic()
    with lease(path, **QUICKLY) as held:
        assert held
    return time.monotonic() - start


def test_a_lease_is_a_file_for_as_long_as_it_is_held(tmp_path):
    path = tmp_path / "run" / "lease"
    with lease(path) as held:
        assert held and path.exists()
    assert list(path.parent.iterdir()) == []


def test_a_lease_ends_with_an_error_too(tmp_path):
    with pytest.raises(ValueError, match="mine"), lease(tmp_path / "lease"):
        raise ValueError("mine")
    assert list(tmp_path.iterdir()) == []


def test_processes_hold_it_one_after_the_other(tmp_path):
    """Six that want it at once; were two to hold it, one would come in before the other is out."""
    spawn = multiprocessing.get_context("spawn")
    own = [spawn.Process(target=hold, args=(tmp_path / "lease", tmp_path / "log", 0.05)) for _ in range(6)]
    for process in own:
        process.start()
    for process in own:
        process.join(60)
    assert [process.exitcode for process in own] == [0] * 6
    lines = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    assert [what for what, _ in lines] == ["in", "out"] * 6
    assert all(first == second for (_, first), (_, second) in zip(lines[::2], lines[1::2], strict=True))
    assert not (tmp_path / "lease").exists()


def test_one_who_waits_goes_when_it_is_needless(tmp_path):
    with holder(tmp_path / "lease", tmp_path / "log"), lease(
            tmp_path / "lease", (tmp_path / "log").exists, **QUICKLY) as held:
        assert not held


def test_a_killed_holder_of_this_machine_is_noticed_at_once(tmp_path):
    with holder(tmp_path / "lease", tmp_path / "log") as process:
        process.kill()
        process.join()
        start = time.monotonic()
        with lease(tmp_path / "lease", beat=0.1, patience=FOREVER) as held:
            assert held and time.monotonic() - start < FOREVER / 2


def test_a_living_holder_is_never_robbed(tmp_path):
    """However long it takes, and even where its processor is busy: three times the patience."""
    with ThreadPoolExecutor(1) as pool, holder(tmp_path / "lease", tmp_path / "log") as process:
        asked = pool.submit(taken_after, tmp_path / "lease")
        time.sleep(3)
        assert not asked.done()
        process.kill()  # ends the wait
        process.join()
        assert asked.result(30) > 2


def test_silence_of_another_machine_ends_its_lease(tmp_path):
    (tmp_path / "lease").write_text(STRANGER)
    assert 0.9 < taken_after(tmp_path / "lease") < 30


@pytest.mark.parametrize("years", [-30, 30])
def test_clocks_that_are_wrong_by_years_change_nothing(years, tmp_path):
    """Neither does a file of the future live for ever, nor one of the past die while it is renewed."""
    path, skew = tmp_path / "lease", years * 365 * 86400
    path.write_text(STRANGER)
    os.utime(path, (time.time() + skew,) * 2)
    assert 0.9 < taken_after(path) < 30
    path.write_text(STRANGER)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(taken_after, path)
        for number in range(20):
            time.sleep(0.1)
            path.with_name("new").write_text(f"another-machine 1 0123 {number + 10}")
            os.utime(path.with_name("new"), (time.time() + skew,) * 2)
            path.with_name("new").replace(path)
        assert not asked.done()
        assert asked.result(30) > 2.5


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"one", b"a b c d e f", b"9" * 100_000,
                                     b"another-machine 99999999999999999999 0 0"])
def test_a_lease_that_nobody_can_have_written_runs_out(content, tmp_path):
    (tmp_path / "lease").write_bytes(content)
    assert taken_after(tmp_path / "lease") < 30


def test_a_pipe_in_its_place_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "lease")
    assert taken_after(tmp_path / "lease") < 30


def test_one_who_slept_too_long_leaves_the_next_holders_lease_alone(tmp_path):
    with holder(tmp_path / "lease", tmp_path / "log", 0.5) as sleeper:
        os.kill(sleeper.pid, signal.SIGSTOP)
        (tmp_path / "lease").write_text((tmp_path / "lease").read_text().replace(" ", "-elsewhere ", 1))
        with lease(tmp_path / "lease", **QUICKLY) as held:
            assert held
            mine = (tmp_path / "lease").read_text().rpartition(" ")[0]
            os.kill(sleeper.pid, signal.SIGCONT)
            sleeper.join(30)
            assert sleeper.exitcode == 0
            assert (tmp_path / "lease").read_text().startswith(mine)


@pytest.mark.parametrize("full_disk", ["4k"], indirect=True)
def test_a_full_disk_ends_no_held_lease_and_gives_no_new_one(full_disk):
    with lease(full_disk / "lease", **QUICKLY) as held:
        assert held
        with contextlib.suppress(OSError):
            (full_disk / "big").write_bytes(bytes(10**6))
        time.sleep(0.5)
    with contextlib.suppress(OSError):
        (full_disk / "bigger").write_bytes(bytes(10**6))
    with pytest.raises(FerError, match=r"lease: No space left .* free some space"), lease(full_disk / "lease"):
        pass
    assert not (full_disk / "lease").exists()


def test_a_folder_without_rights_is_named(locked_folder):
    with pytest.raises(FerError, match="lease: no permission"), lease(locked_folder / "lease"):
        pass
