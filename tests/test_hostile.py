"""Broken and hostile input: refused in one line that names it, in bounded memory, and nothing else happens.

`tests.hostile` has the readers and the ways to spoil their files; ``benchmarks/fuzz.py`` goes on from there.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import random
import re
import shutil
import signal
import socket
import struct
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from conftest import Payload, fer_here
from corpus import faces_of, png, votes_text, write_tree, write_zip
from hostile import READERS, attempt, small_network, spoil, write_run
from hypothesis import given, settings
from hypothesis import strategies as st

from fer_helpers.data import mapped
from fer_helpers.data.image_files import read_photograph
from fer_helpers.data.readers import load_faces
from fer_helpers.experiments.sweeps import read_plan
from fer_helpers.files import MAX_JSON, FerError, check_file, printable, read_json
from fer_helpers.inference.loading import find_run
from fer_helpers.inference.photographs import frames
from fer_helpers.report import results
from fer_helpers.training.checkpoints import load_checkpoint
from fer_helpers.training.runs import Run, record_run
from tests.data.test_readers import absurd_png, files_below

pytestmark = [pytest.mark.hostile, pytest.mark.filterwarnings("ignore"),  # Pillow warns of what it then refuses
              pytest.mark.skipif(os.name != "posix", reason="pipes, devices and links as POSIX has them")]
#: MiB that the worst input may take beside what the package takes itself; README.md states it.
MAX_MEMORY = 1536
ENOUGH = 10_000


class Watch:
    """What Python does to files and processes, by its audit events: writing outside a folder, starting, connecting."""

    _WRITES = {"os.remove", "os.rmdir", "os.mkdir", "os.rename", "os.symlink", "os.link", "os.truncate", "os.chmod",
               "shutil.rmtree", "shutil.copyfile", "shutil.move"}
    _ACTS = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "pty.spawn",
             "socket.connect", "socket.bind", "os.kill", "os.putenv", "ctypes.dlopen"}

    def __init__(self) -> None:
        self.folder: str | None = None
        self.seen: list[tuple[Any, ...]] = []
        sys.addaudithook(self._note)  # for good: hooks cannot be taken away

    def _note(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.folder is None:
            return
        if event == "open":
            writes = isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        else:
            writes = event in self._WRITES
        if event in self._ACTS or writes and not os.path.abspath(os.fsdecode(arguments[0])).startswith(self.folder):
            self.seen.append((event, *arguments))

    @contextlib.contextmanager
    def over(self, folder: Path) -> Iterator[None]:
        """Nothing of that kind happens in the block, but below ``folder``."""
        self.folder, self.seen = str(folder), []
        try:
            yield
        finally:
            self.folder = None
        assert not self.seen


@pytest.fixture(scope="module")
def watch() -> Watch:
    return Watch()


@pytest.fixture(scope="module")
def lay(tmp_path_factory) -> Callable[[str, Path], Path]:
    """Lays valid input for a reader in a folder. It is made once, as a run takes a tenth of a second."""
    root = tmp_path_factory.mktemp("valid")

    def copy(name: str, folder: Path) -> Path:
        if not (root / name).exists():
            (root / name).mkdir()
            READERS[name].write(root / name)
        return shutil.copytree(root / name, folder, dirs_exist_ok=True)

    return copy


@pytest.fixture(autouse=True)
def small() -> Iterator[None]:
    with small_network():
        yield


class Stuck(BaseException):
    """No reader catches it."""


@pytest.fixture(autouse=True)
def patience() -> Iterator[None]:
    """Whoever waits for a pipe or reads a device is woken."""
    def wake(*_: object) -> None:
        raise Stuck("still reading after two minutes")

    before = signal.signal(signal.SIGALRM, wake)
    signal.alarm(120)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """In memory where that is possible: thousands of files are written."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as made:
        yield Path(made)


def files_of(folder: Path) -> dict[str, int]:
    """Files and their sizes, but for those of runs that are recorded: they differ from input to input."""
    return {path: size for path, size in files_below(folder).items() if "/recorded/" not in path}


# Thousands of inputs for every reader

#: Of a hundred spoilt inputs, how many each reader refused when this was written; the rest means something else and is
#: read. Two less may come with other versions of libraries and other paths, and five where Pillow decides.
REFUSED = {
    "csv": 97, "zip": 97, "zip of a csv": 99, "tar": 94, "gzip of a csv": 99, "parquet": 95, "labels": 83,
    "tree": 99, "votes": 94, "png": 98, "palette": 98, "sixteen bits": 97, "jpeg": 68, "gif": 67, "tiff": 93,
    "packed tiff": 94, "webp": 73, "avif": 94, "heic": 90, "bmp": 64, "ppm": 62, "config": 97, "run": 93,
    "packed run": 100, "study": 88, "weights": 98, "network": 98, "checkpoint": 93, "progress": 75, "plan": 77,
    "findings": 52, "mapped": 97, "sentences": 97, "onnx": 100, "search": 76}
PILLOWS = {"png", "palette", "sixteen bits", "jpeg", "gif", "tiff", "packed tiff", "webp", "avif", "heic", "bmp", "ppm"}
WANTED = {name: percent - (5 if name in PILLOWS else 2) for name, percent in REFUSED.items()}


@pytest.mark.parametrize("name", READERS)
def test_spoilt_input_is_read_or_refused_by_name_and_nothing_else_happens(name, folder, lay, watch):
    reader, chance = READERS[name], random.Random(name)
    lay(name, folder)
    reader.read(folder)
    before, good = files_of(folder), [(folder / file).read_bytes() for file in reader.files]
    refused = 0
    with watch.over(folder):
        for number in range(reader.inputs):
            place = number % len(good)
            refused += attempt(reader, folder, reader.files[place], spoil(good[place], chance)) is not None
    assert files_of(folder) == before
    assert 100 * refused / reader.inputs >= WANTED[name]


def test_more_than_ten_thousand_bad_inputs_are_refused():
    """As docs/strangers.md says: by every reader, so many as the test above wants."""
    assert set(WANTED) == set(READERS)
    assert sum(reader.inputs * WANTED[name] / 100 for name, reader in READERS.items()) > ENOUGH


# What is no file, in place of each file of each reader

def pipe(path: Path) -> None:
    os.mkfifo(path)


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def circle(path: Path) -> None:
    path.symlink_to(path)


def folder_instead(path: Path) -> None:
    path.mkdir()


def nowhere(path: Path) -> None:
    path.symlink_to(path.with_name("gone"))


def closed_home(path: Path) -> None:
    path.symlink_to("/proc/self/mem")


#: What is as if there were nothing yet, which is no error: no checkpoint, no failure, no search.
ABSENT = {"checkpoint", "progress", "search"}


@pytest.mark.parametrize("kind", [pipe, endless, circle, folder_instead, nowhere, closed_home])
@pytest.mark.parametrize("name", READERS)
def test_what_is_no_file_is_refused_at_once(folder, lay, name, kind, watch):
    if kind in (circle, nowhere) and name in ABSENT or kind is folder_instead and name == "tree":
        pytest.skip("no error")
    for file in READERS[name].files:
        place = lay(name, folder / file.replace("/", " "))
        (place / file).unlink()
        kind(place / file)
        with watch.over(place), pytest.raises(FerError) as caught:
            READERS[name].read(place)
        assert str(place) in str(caught.value), str(caught.value)


def test_links_out_of_a_folder_are_read_but_never_written_through(folder, watch):
    outside = folder / "outside"
    write_tree(outside / "faces", ["train/fear", "test/fear"], count=1)
    (outside / "notes").write_text("mine")
    inside = folder / "inside"
    inside.mkdir()
    (inside / "faces").symlink_to(outside / "faces")
    run = write_run(inside / "runs" / "one")
    target = inside / "recorded" / "one"
    target.mkdir(parents=True)
    for name in ("config.json", "metrics.json", "predictions.csv", "environment.json", "history.csv"):
        (target / name).symlink_to(outside / "notes")
    before = files_below(outside)
    with watch.over(inside):
        assert len(load_faces(inside / "faces", cache=False, progress=False)) == 2
        assert record_run(run, inside / "recorded").metrics["test"].count
    assert files_below(outside) == before and (outside / "notes").read_text() == "mine"


def test_a_link_among_findings_is_taken_away_and_what_it_leads_to_stays(folder, lay):
    lay("findings", folder)
    run = folder / "runs" / "one"
    (folder / "results" / "02_training" / "two").symlink_to(run)
    faces = load_faces(write_tree(folder / "faces", ["train/fear", "test/fear"]), cache=False, progress=False)
    results.keep("02_training", faces, {}, {}, [Run(run)], folder=folder / "results", force=True)
    assert (run / "metrics.json").exists()
    assert not (folder / "results" / "02_training" / "two").is_symlink()


@pytest.mark.parametrize("text", [
    "#EXTM3U\n#EXTINF:1.0,\nhttp://{}/a.ts\n#EXT-X-ENDLIST\n", "ffconcat version 1.0\nfile http://{}/a.mp4\n",
    "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"])
def test_a_film_that_is_a_list_of_addresses_asks_nobody(folder, text):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        for suffix in (".mp4", ".avi"):
            path = folder / f"film{suffix}"
            path.write_text(text.format("{}:{}".format(*server.getsockname())))
            with pytest.raises(FerError, match=r"film\.\w+: is no readable film"):
                list(frames(path))
        with pytest.raises(TimeoutError):
            server.accept()


@pytest.mark.parametrize("kind", [pipe, endless, folder_instead])
def test_a_film_that_is_no_file_is_refused_at_once(folder, kind):
    kind(folder / "film.mp4")
    with pytest.raises(FerError, match=r"film\.mp4: Is a "):
        list(frames(folder / "film.mp4"))


# Names that lead elsewhere, and names no terminal should be shown

@pytest.mark.parametrize("place", [".", "..", "one/..", "../runs/one"])
def test_a_run_is_recorded_below_the_target_whatever_its_path_ends_in(folder, place, monkeypatch, watch):
    run = write_run(folder / "runs" / "one")
    (run.folder / "inner").mkdir()
    monkeypatch.chdir(run.folder / "inner" if place == ".." else run.folder if place == "." else folder / "runs")
    (folder / "target").mkdir()
    source = Run(Path(place)) if place != "one/.." else Run(Path("one/inner/.."))
    with watch.over(folder / "target"):
        kept = record_run(source, folder / "target")
    assert kept.folder == folder / "target" / "one"


@pytest.mark.parametrize("name", ["../../secret", "/secret", "a/b", "", "..", "x\0y", 3, None, ["a"]])
def test_findings_read_no_table_outside_their_folder(folder, lay, name):
    lay("findings", folder)
    (folder / "secret.csv").write_text("a,b\n1,2\n")
    path = folder / "results" / "02_training" / "about.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tables": [name]}))
    with pytest.raises(FerError, match="recorded findings are damaged"):
        results.recall("02_training", folder=folder / "results")


@pytest.mark.parametrize("name", ["../train/fear/a.png", "train/../../fear/a.png", "/train/fear/a.png", "C:/fear/a.png",
                                  "..\\train\\fear\\a.png", "train/fear/..", "\\\\host\\fear\\a.png"])
def test_no_name_in_a_zip_leads_out_of_it(folder, name, watch):
    path = write_zip(folder / "faces.zip", {"train/fear/b.png": png(faces_of(1)[0]), name: png(faces_of(2)[1])})
    with watch.over(folder), pytest.raises(FerError, match=r"faces\.zip: .* points outside the archive"):
        load_faces(path, cache=False, progress=False)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_whose_pieces_unpack_to_gigabytes_at_once_is_refused(folder, method):
    with zipfile.ZipFile(folder / "faces.zip", "w", method) as archive:
        archive.writestr("train/fear/a.png", png(faces_of(1)[0]))
    with pytest.raises(FerError, match=r"faces\.zip: 'train/fear/a\.png' is packed in an unusual way; pack it again"):
        load_faces(folder / "faces.zip", cache=False, progress=False)


NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=60).filter(
    lambda name: name not in (".", "..") and len(name.encode()) < 200)
NASTY = ["a\nb.png", "\x1b[2Jx.png", "a\rb.png", "\u202egnp.exe", "тест 😀.png", "\x7f", "-rf", " ", "$(touch x)",
         "%s%n", "{path}", "a\u2028b", os.fsdecode(b"\xff\xfe.png"), "x" * 240, "…", "NUL", "'\"`;|"]


@settings(max_examples=150)
@given(name=NAMES | st.sampled_from(NASTY))
def test_a_file_of_any_name_is_refused_in_one_line(tmp_path_factory, name):
    folder = tmp_path_factory.getbasetemp() / "names"
    folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as made:
        path = Path(made) / name
        path.write_bytes(b"nonsense")
        for read in (read_photograph, lambda path: load_faces(path, cache=False, progress=False), read_plan,
                     lambda path: read_json(path, "mend it"), lambda path: load_checkpoint(path, "me", "cpu")):
            with pytest.raises(FerError) as caught:
                read(path)
            assert str(caught.value).isprintable() and printable(name) in str(caught.value)


def test_pictures_of_any_name_are_told_apart_by_the_command(folder):
    for number, name in enumerate(NASTY):
        (folder / f"{number}{name}.png").write_bytes(png(faces_of(1)[0]) if number % 2 else b"nonsense")
    for form in ("text", "json", "csv"):
        done = fer_here("predict", ".", "--format", form, "--detector", "cascade", cwd=folder)
        assert done.exit_code == 1 and done.exception.code == 1, done.exception
        assert done.stderr.count("error: ") == (len(NASTY) + 1) // 2 and "Traceback" not in done.output
        assert all(line.isprintable() for line in done.stderr.splitlines())
        if form != "csv":
            assert all(line.isprintable() for line in done.stdout.splitlines())


@pytest.mark.parametrize("name", ["x" * 300, "x/" * 3000])
def test_a_name_that_no_disk_could_hold_is_an_error_like_others(folder, name):
    for read in (read_photograph, load_faces, find_run, lambda name: read_json(name, "mend it"), check_file, read_plan):
        with pytest.raises(FerError, match="xxxx" if "/" not in name else "x/x/"):
            read(name if read is not read_plan else Path(name))
    done = fer_here("predict", name, cwd=folder)
    assert "does not exist" in str(done.exception)


# Nothing is run

@pytest.fixture
def payloads(folder) -> dict[str, bytes]:
    """Files that would make ``folder``/hacked if whoever reads them ran what they say."""
    payload, found = Payload(folder / "hacked"), {}
    pickle.loads(pickle.dumps(payload))
    (folder / "hacked").unlink()  # it works
    found["pickle"] = pickle.dumps(payload)
    for name, options in (("torch", {}), ("old torch", {"_use_new_zipfile_serialization": False})):
        buffer = io.BytesIO()
        torch.save({"identity": "me", "history": payload}, buffer, **options)
        found[name] = buffer.getvalue()
    for name, save in (("npy", np.save), ("npz", lambda file, array: np.savez(file, labels=array, ids=array))):
        buffer = io.BytesIO()
        save(buffer, np.array([payload, None], object))
        found[name] = buffer.getvalue()
    found["yaml"] = f"grid: !!python/object/apply:pathlib.Path.touch\n  - !!python/object/apply:pathlib.Path\n    - "\
                    f"{folder}/hacked\n".encode()
    found["yaml call"] = f"!!python/object/apply:os.system ['touch {folder}/hacked']".encode()
    found["python"] = f"__import__('pathlib').Path('{folder}/hacked').touch()".encode()
    found["csv"] = f"epoch,split\n=cmd|' /C touch {folder}/hacked'!A0,`touch {folder}/hacked`\n".encode()
    return found


@pytest.mark.parametrize("name", READERS)
def test_no_reader_runs_what_it_reads(name, folder, lay, payloads, watch):
    reader, place = READERS[name], lay(name, folder / "here")
    for data in payloads.values():
        for file in reader.files:
            with watch.over(place):
                attempt(reader, place, file, data)
    assert not (folder / "hacked").exists()


def test_a_pickle_behind_a_right_manifest_is_not_unpacked(folder, lay, payloads):
    lay("mapped", folder)
    for name, data in (("columns.npz", payloads["npz"]), ("images.npy", payloads["npy"])):
        manifest, path = folder / "mapped" / mapped.MANIFEST, folder / "mapped" / name
        good = path.read_bytes(), manifest.read_text()
        path.write_bytes(data)
        known = json.loads(good[1])
        known["files"][name] = {"sha256": mapped._hash(path)} | mapped._stamp(path)
        manifest.write_text(json.dumps(known))
        with pytest.raises(FerError, match=str(folder)):
            load_faces(folder / "mapped")
        path.write_bytes(good[0])
        manifest.write_text(good[1])
    assert not (folder / "hacked").exists()


def test_a_manifest_leads_to_no_file_elsewhere(folder, lay, tmp_path):
    lay("mapped", folder)
    manifest, secret = folder / "mapped" / mapped.MANIFEST, tmp_path / "secret"
    secret.write_text("not to be looked at")
    known = json.loads(manifest.read_text())
    for name in (str(secret), os.path.relpath(secret, manifest.parent)):
        # Rightly described: without a refusal it would be read, and nobody would know.
        rest = known["files"] | {name: {"sha256": mapped._hash(secret), "bytes": secret.stat().st_size, "time": 0}}
        manifest.write_text(json.dumps(known | {"files": rest}))
        with pytest.raises(FerError, match=f"{re.escape(str(manifest))}: .*none of its files"):
            load_faces(folder / "mapped")


@pytest.mark.parametrize("value", ["!!python/object/apply:os.system [touch hacked]", "!!bool x", "!!timestamp x",
                                   "!!int x", "2001-99-99", "[" * 5000, "*a", "&a [*a]", "\ud800", "9" * 5000,
                                   "!!set {}"])
def test_a_setting_that_is_no_value_is_refused_by_name(tmp_path, value):
    done = fer_here("train", f"lr={value}", "--data", "nowhere", cwd=tmp_path)
    assert isinstance(done.exception, FerError) and "lr=" in str(done.exception)
    assert list(tmp_path.iterdir()) == []


# Numbers that are none

@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), 1e300])
def test_weights_that_are_not_finite_are_refused(folder, value):
    run = write_run(folder / "one")
    weights = safetensors.torch.load_file(run.folder / "weights.safetensors")
    weights["classifier.bias"] = torch.full((7,), value, dtype=torch.float64)
    safetensors.torch.save_file(weights, run.folder / "weights.safetensors")
    with pytest.raises(FerError, match=r"weights\.safetensors: classifier\.bias holds NaN or infinite values"):
        run.model()


@pytest.mark.parametrize(("old", "new"), [('"F32"', '"F8_E4M3"'), ('"F32"', '"F4"'), ('"F32"', '"BOOL"'),
                                          ("[0,", "[-1,"), ("[0,", "[99999999999999999999,"), ('"F32"', '"C64"')])
def test_headers_of_weights_that_lie_are_refused(folder, old, new):
    path = write_run(folder / "one").folder / "weights.safetensors"
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = data[8:8 + length].decode().replace(old, new)
    assert header != data[8:8 + length].decode()
    path.write_bytes(len(header.encode()).to_bytes(8, "little") + header.encode() + data[8 + length:])
    with pytest.raises(FerError, match=r"weights\.safetensors: not the weights of a 7-class small"):
        Run(folder / "one").model()


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "9" * 5000, '"\\ud800"', "[" * 5000])
def test_json_holds_only_what_we_could_have_written(tmp_path, number):
    path = tmp_path / "metrics.json"
    path.write_text(number)
    with pytest.raises(FerError, match=r"metrics\.json: not valid JSON .*; mend it"):
        read_json(path, "mend it")


def edited(name: str, edit: Callable[[Any], Any]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / name
        if path.suffix == ".csv":
            edit(pd.read_csv(path)).to_csv(path, index=False)
        else:
            path.write_text(json.dumps(edit(json.loads(path.read_text()))))
    return change


def with_test(**changes: Any) -> Callable[[Any], Any]:
    return lambda values: values | {"test": values["test"] | changes}


TAMPERED = {  # what is done to a run, the file to be named
    "a path in place of settings": (edited("config.json", lambda values: "/etc/passwd"), "config.json"),
    "a list as architecture": (edited("config.json", lambda values: values | {"arch": ["small"]}), "config.json"),
    "an object as classes": (edited("config.json", lambda values: values | {"classes": {}}), "config.json"),
    "a setting too many": (edited("config.json", lambda values: values | {"__class__": "x"}), "config.json"),
    "metrics of nothing": (edited("metrics.json", lambda values: []), "metrics.json"),
    "metrics without test": (edited("metrics.json", lambda values: {"val": values["val"]}), "metrics.json"),
    "words for numbers": (edited("metrics.json", with_test(accuracy=["a", "b", "c"])), "metrics.json"),
    "numbers missing": (edited("metrics.json", with_test(accuracy=[1, None, 1])), "metrics.json"),
    "two rates": (edited("metrics.json", with_test(rates=[[0.1]])), "metrics.json"),
    "negative counts": (edited("metrics.json", with_test(confusion=[[-1] * 7] * 7)), "metrics.json"),
    "counts beyond all": (edited("metrics.json", with_test(confusion=[[10**400] * 7] * 7)), "metrics.json"),
    "classes that are numbers": (edited("metrics.json", with_test(classes=[1, 2, 3])), "metrics.json"),
    "other classes in one part": (edited("metrics.json", with_test(classes=list("abcdefg"))), "metrics.json"),
    "no probabilities": (edited("predictions.csv", lambda table: table.iloc[:, :6]), "predictions.csv"),
    "a probability of nothing": (edited("predictions.csv", lambda table: table.drop(columns="prob_fear")),
                                 "predictions.csv"),
    "a probability of two": (edited("predictions.csv", lambda table: table.assign(prob_fear=2.0)), "predictions.csv"),
    "a class of its own": (edited("predictions.csv", lambda table: table.assign(true="joyful")), "predictions.csv"),
    "one image again and again": (edited("predictions.csv", lambda table: table.assign(id="same")), "predictions.csv"),
    "no predictions": (edited("predictions.csv", lambda table: table.iloc[:0]), "predictions.csv"),
    "ten thousand columns": (edited("predictions.csv", lambda table: table.join(pd.DataFrame(
        0, table.index, [f"column{number}" for number in range(10_000)]))), "predictions.csv"),
    "no validation loss": (edited("history.csv", lambda table: table.drop(columns="val_loss")), "history.csv"),
    "words in the history": (edited("history.csv", lambda table: table.assign(val_loss="low")), "history.csv"),
    "epochs out of order": (edited("history.csv", lambda table: table.assign(epoch=[2, 1])), "history.csv"),
    "no data": (edited("environment.json", lambda values: values | {"data": 3}), "environment.json"),
    "no epoch": (edited("environment.json", lambda values: values | {"best_epoch": "last"}), "environment.json"),
}


@pytest.mark.parametrize("kind", TAMPERED)
def test_a_run_that_was_tampered_with_is_refused_by_the_name_of_the_file(folder, lay, kind):
    lay("run", folder)
    change, named = TAMPERED[kind]
    change(folder / "runs" / "one")
    with pytest.raises(FerError, match=named):
        READERS["run"].read(folder)


# Little that becomes much

#: A megabyte of zeros as a piece of a deflate stream that may be repeated: a kilobyte for each megabyte.
_PACKER = zlib.compressobj(9, zlib.DEFLATED, -15)
MEGABYTE = _PACKER.compress(bytes(1 << 20)) + _PACKER.flush(zlib.Z_FULL_FLUSH)
END = b"\x03\x00"  # an empty last block


def sparse(path: Path, start: bytes = b"", size: int = 8 << 30) -> None:
    """A file of zeros that takes no room on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(start)
        file.truncate(size)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of_zeros(width: int, height: int, colour: int, depth: int = 8, *more: bytes) -> bytes:
    """Black: a thousandth of its pixels' size. Its checksum is wrong, which Pillow does not mind at the end of data."""
    size = (width * {0: 1, 2: 3, 4: 2, 6: 4}[colour] * depth // 8 + 1) * height
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(more) + chunk(
        b"IDAT", b"\x78\xda" + MEGABYTE * (size // (1 << 20) + 1) + END) + chunk(b"IEND", b"")


def lying_zip(path: Path, name: str, stated: int, megabytes: int, method: int = zipfile.ZIP_DEFLATED) -> None:
    """One file that unpacks to so many megabytes, where the archive says ``stated`` bytes."""
    data, encoded = MEGABYTE * megabytes + END, name.encode()
    common = struct.pack("<HHHHHIII", 20, 0, method, 0, 33, 0, len(data), stated) + struct.pack("<HH", len(encoded), 0)
    local = b"PK\x03\x04" + common + encoded + data
    central = b"PK\x01\x02\x14\x03" + common + struct.pack("<HHHII", 0, 0, 0, 0o644 << 16, 0) + encoded
    path.write_bytes(local + central + b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(central), len(local), 0))


def lying_parquet(path: Path, megabytes: int) -> None:
    """A page of pictures that unpacks to so many megabytes, as its own header says, where the metadata say two."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    noise = np.random.default_rng(0).bytes(2 << 20)
    pq.write_table(pa.table({"image": [{"bytes": noise, "path": ""}], "label": ["fear"]}), path,
                   compression="gzip", use_dictionary=False, write_statistics=False)
    chunk = pq.read_metadata(path).row_group(0).column(0)

    def header(*numbers: int) -> bytes:  # numbers of a struct in Thrift's compact protocol
        return b"".join(b"\x15" + bytes([128 | 2 * number >> shift & 127 for shift in (0, 7, 14, 21)] +
                                        [2 * number >> 28]) for number in numbers)

    def page(packed: int) -> bytes:  # of data: one value, plain
        return header(0, megabytes << 20, packed) + b"\x2c" + header(1, 0, 3, 3) + b"\x00\x00"

    size = chunk.total_compressed_size - len(page(0))
    packed = b"\x1f\x8b\x08" + bytes(7) + MEGABYTE * megabytes + END
    with path.open("r+b") as file:
        file.seek(chunk.data_page_offset)
        file.write(page(size) + packed.ljust(size, b"\x00"))


def repeating_parquet(path: Path, column: str, kind: str, **options: Any) -> None:
    """300 faces with the same megabyte in a ``column`` beside them, which takes little room."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    value = pa.array([b"a" * (1 << 20)], pa.binary(1 << 20) if kind == "fixed" else pa.binary())
    same = pa.DictionaryArray.from_arrays(pa.array([0] * 300, pa.int32()), value).cast(value.type)
    table = {"image": [png(faces_of(1)[0])] * 300, "label": ["fear"] * 300} | {column: same}
    pq.write_table(pa.table(table), path, **options)
    pa.default_memory_pool().release_unused()


def laughs(levels: int = 12, merge: bool = False) -> str:
    rows = ["a0: &a0 {x: 1, y: 2}" if merge else "a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{n}: &a{n} " + ("{<<: [" if merge else "[") + ", ".join([f"*a{n - 1}"] * 9) + ("]}" if merge else "]")
             for n in range(1, levels)]
    return "grid:\n" + "".join(f"  {row}\n" for row in rows)


def bombs(root: Path, lay: Callable[[str, Path], Path]) -> None:
    """Each in a folder of its name; `read_bombs` reads them."""
    def place(name: str) -> Path:
        (root / name).mkdir()
        return root / name

    lying_zip(place("lying zip") / "faces.zip", "train/fear/a.png", 100, 2000)
    lying_zip(place("lying table in a zip") / "faces.zip", "train.csv", 80 << 20, 2000)
    lying_zip(place("zip bomb") / "faces.zip", "train/fear/a.png", 2000 << 20, 2000)
    lying_parquet(place("page that lies") / "faces.parquet", 1500)
    repeating_parquet(place("subject") / "faces.parquet", "subject", "any")
    repeating_parquet(place("label of fixed length") / "faces.parquet", "label", "fixed")
    repeating_parquet(place("differences") / "faces.parquet", "subject", "any", use_dictionary=False,
                      column_encoding={"subject": "DELTA_BYTE_ARRAY"})
    (place("absurd header") / "a.png").write_bytes(absurd_png(31_623, 31_623))  # 10⁹ pixels
    (place("picture too large") / "a.png").write_bytes(png_of_zeros(8000, 8000, 6))
    (place("text in a picture") / "a.png").write_bytes(png_of_zeros(
        10, 10, 0, 8, *[chunk(b"zTXt", b"a\0\0\x78\xda" + MEGABYTE * 500 + END)] * 4))
    (place("profile in a picture") / "a.png").write_bytes(png_of_zeros(
        10, 10, 0, 8, chunk(b"iCCP", b"a\0\0\x78\xda" + MEGABYTE * 2000 + END)))
    (place("largest picture") / "a.png").write_bytes(png_of_zeros(7071, 7071, 6))
    for name, suffix, start in (("one row", "faces.csv", b"emotion,pixels\n"), ("no header", "faces.csv", b"")):
        sparse(place(name) / suffix, start)
    with (place("row without end") / "faces.csv").open("w") as file:
        file.write("emotion,pixels\n" + '0,"1\n' * 1 + '","\n' * 20_000_000)
    write_tree(place("votes") / "data", ["train/fear", "test/fear"], count=1)
    sparse(root / "votes" / "fer2013new.csv", votes_text(["a"]).encode())
    for name, text in (("settings", "config.json"), ("weights", "weights.safetensors"),
                       ("predictions", "predictions.csv"), ("history", "history.csv"), ("metrics", "metrics.json")):
        sparse(lay("weights", root / name) / "one" / text)
    (lay("weights", root / "brackets") / "one" / "metrics.json").write_text("[" + "[]," * (MAX_JSON // 3 - 2) + "[]]")
    (lay("weights", root / "header") / "one" / "weights.safetensors").write_bytes((2**62).to_bytes(8, "little") + b"{}")
    (place("laughs") / "plan.yaml").write_text(laughs())
    (place("merged laughs") / "plan.yaml").write_text(laughs(merge=True))
    (place("deep plan") / "plan.yaml").write_text("[" * (1 << 20))
    sparse(place("long plan") / "plan.yaml")
    for name in ("laughs", "merged laughs", "deep plan"):
        (place(f"{name} of a study") / "study.yaml").write_text((root / name / "plan.yaml").read_text())
    (lay("packed run", root / "packed predictions") / "records" / "one" / "predictions.csv.gz").write_bytes(
        b"\x1f\x8b\x08" + bytes(7) + MEGABYTE * 2000 + END)
    buffer = io.BytesIO()
    torch.save({"identity": "me", "history": [], "model": torch.zeros(256 << 20, dtype=torch.uint8)}, buffer)
    write_zip(place("packed checkpoint") / "checkpoint.pt", {
        info.filename: archive.read(info) for archive in [zipfile.ZipFile(buffer)] for info in archive.infolist()})
    lay("mapped", root / "columns")
    path, manifest = root / "columns" / "mapped" / "columns.npz", root / "columns" / "mapped" / mapped.MANIFEST
    lying_zip(path, "ids.npy", 2000 << 20, 2000)
    known = json.loads(manifest.read_text())
    known["files"]["columns.npz"] = {"sha256": mapped._hash(path)} | mapped._stamp(path)
    manifest.write_text(json.dumps(known))
    sparse(place("journal") / "search.log")


def peak() -> int:
    """MiB that were resident at most, since the system was told to forget."""
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) // 1024


def read_bombs(root: Path, told: Path) -> None:
    """Read each, the largest picture last; write by how much the peak of memory grew, and the outcome."""
    kinds = {"faces.zip": "zip", "a.png": "png", "faces.csv": "csv", "plan.yaml": "plan", "checkpoint.pt": "checkpoint",
             "fer2013new.csv": "votes", "mapped": "mapped", "search.log": "search", "study.yaml": "study",
             "records": "packed run", "faces.parquet": "parquet"}
    for folder in sorted(root.iterdir(), key=lambda folder: folder.name == "largest picture"):
        Path("/proc/self/clear_refs").write_text("5")  # the peak is what is resident now
        before, outcome = peak(), "read"
        kind = next((kind for name, kind in kinds.items() if (folder / name).exists()), None)
        try:
            if kind:
                READERS[kind].read(folder)
            else:
                run = Run(folder / "one")
                _ = run.config, run.metrics, run.history, run.predictions, run.model()
        except Exception as error:
            named = isinstance(error, FerError) and str(folder) in str(error)
            outcome = "refused" if named else f"{type(error).__name__}: {error}"
        with told.open("a") as file:
            file.write(json.dumps([folder.name, peak() - before, outcome]) + "\n")


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is told by Linux")
def test_little_that_would_become_much_is_refused_before_it_does(folder, lay, tmp_path):
    """One after the other in a process of its own, whose resident memory each may raise by 128 MiB; a picture as large
    as they may be, which is read, by `MAX_MEMORY`."""
    bombs(folder, lay)
    if not (child := os.fork()):
        try:
            read_bombs(folder, tmp_path / "told")
        finally:
            os._exit(0)
    try:
        os.waitpid(child, 0)
    except Stuck:
        os.kill(child, signal.SIGKILL)
        raise
    told = {name: one for name, *one in map(json.loads, (tmp_path / "told").read_text().splitlines())}
    assert set(told) == {path.name for path in folder.iterdir()}
    largest = told.pop("largest picture")
    assert largest[1] == "read" and largest[0] <= MAX_MEMORY, largest
    assert {name: one for name, one in told.items() if one[1] != "refused" or one[0] > 128} == {}
