import errno
import json
import os
import pickle
import threading
from pathlib import Path

import hypothesis
import pytest
import tqdm
import tqdm.notebook
from hypothesis import given
from hypothesis import strategies as st

from fer_helpers.files import (
    FerError,
    bar_options,
    digest,
    explain_os_errors,
    home,
    needs_extra,
    read_json,
    read_yaml,
    write_atomic,
    write_json,
)


def test_write_atomic_makes_the_folders_and_the_file(tmp_path):
    path = tmp_path / "a" / "b" / "note.txt"
    write_atomic(path, lambda temporary: temporary.write_text("new"))
    assert path.read_text() == "new"
    assert os.listdir(path.parent) == ["note.txt"]


def test_write_atomic_takes_a_string_as_path(tmp_path):
    write_atomic(str(tmp_path / "note.txt"), lambda temporary: temporary.write_text("new"))
    assert (tmp_path / "note.txt").read_text() == "new"


def test_temporary_file_has_the_suffix_that_writers_go_by(tmp_path):
    seen = []
    write_atomic(tmp_path / "table.csv", lambda temporary: seen.append(temporary) or temporary.write_text("a"))
    assert seen[0].suffix == ".csv"
    assert seen[0].parent == tmp_path


@pytest.mark.parametrize("error", [ValueError("half-way"), KeyboardInterrupt(), FerError("mine")])
def test_failed_write_leaves_the_old_file_and_no_temporary(tmp_path, error):
    path = tmp_path / "note.txt"
    path.write_text("old")

    def fail(temporary):
        temporary.write_text("half of the ne")
        raise error

    with pytest.raises(type(error)) as raised:
        write_atomic(path, fail)
    assert raised.value is error
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["note.txt"]


def test_readers_see_the_old_file_or_the_whole_new_one(tmp_path):
    path, broken, stop = tmp_path / "values.json", [], threading.Event()
    write_json(path, [0] * 20_000)

    def read():
        while not stop.is_set():
            values = json.loads(path.read_text())
            if len(values) != 20_000 or len(set(values)) != 1:
                broken.append(values[:3])

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for number in range(1, 12):
            write_json(path, [number] * 20_000)
    finally:
        stop.set()
        reader.join()
    assert not broken


def test_full_disk_names_file_and_fix_and_leaves_nothing(full_disk):
    path = full_disk / "big.bin"
    with pytest.raises(FerError, match=r"big\.bin.*space.*free some space") as raised:
        write_atomic(path, lambda temporary: temporary.write_bytes(bytes(1 << 20)))
    assert raised.value.__cause__.errno == errno.ENOSPC
    assert os.listdir(full_disk) == []


def test_full_disk_keeps_the_old_file(full_disk):
    path = full_disk / "note.txt"
    write_atomic(path, lambda temporary: temporary.write_text("old"))
    with pytest.raises(FerError):
        write_atomic(path, lambda temporary: temporary.write_bytes(bytes(1 << 20)))
    assert path.read_text() == "old"
    assert os.listdir(full_disk) == ["note.txt"]


def test_missing_permission_names_file_and_fix_and_leaves_nothing(locked_folder):
    with pytest.raises(FerError, match=r"note\.txt: no permission.*rights"):
        write_atomic(locked_folder / "note.txt", lambda temporary: temporary.write_text("new"))
    assert os.listdir(locked_folder) == []


def test_a_file_where_a_folder_is_wanted_is_explained(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FerError, match=r"note\.txt"):
        write_atomic(tmp_path / "file" / "note.txt", lambda temporary: temporary.write_text("new"))


def test_a_folder_where_the_file_is_wanted_is_explained_and_nothing_is_left(tmp_path):
    (tmp_path / "note.txt").mkdir()
    with pytest.raises(FerError, match=r"note\.txt"):
        write_atomic(tmp_path / "note.txt", lambda temporary: temporary.write_text("new"))
    assert os.listdir(tmp_path) == ["note.txt"]


def test_explain_os_errors_leaves_other_errors_alone():
    with pytest.raises(ZeroDivisionError), explain_os_errors("x", "reading"):
        1 / 0  # noqa: B018
    with pytest.raises(FerError, match="^x: .* while reading; ") as raised, explain_os_errors("x", "reading"):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")
    assert isinstance(raised.value.__cause__, FileNotFoundError)


@pytest.mark.parametrize(("text", "shown"), [
    ("faces/a b.png: é 😀 is fine", "faces/a b.png: é 😀 is fine"), ("a\nb\r\t\x1b[2J\x00", r"a\nb\r\t\x1b[2J\x00"),
    ("\u202egnp.exe", r"\u202egnp.exe"), (os.fsdecode(b"\xff.png"), r"\udcff.png")])
def test_an_error_is_one_line_that_can_be_printed(text, shown):
    assert str(FerError(text)) == shown
    copy = pickle.loads(pickle.dumps(FerError(text)))  # as it comes back from another process
    assert str(copy) == shown and str(FerError(str(copy))) == shown


def test_an_endless_error_keeps_its_beginning_and_its_end():
    message = str(FerError("a.json: " + "x" * 10_000_000 + "; mend it"))
    assert len(message) <= 6000 and message.startswith("a.json: xxx") and message.endswith("xxx; mend it")


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
                    | st.text(), lambda part: st.lists(part) | st.dictionaries(st.text(), part), max_leaves=10)


@hypothesis.settings(max_examples=15)
@given(JSON)
def test_json_comes_back_as_it_was_written(tmp_path_factory, value):
    path = tmp_path_factory.mktemp("json") / "value.json"
    write_json(path, value)
    assert read_json(path, "mend it") == value


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [1, {"a": float("-inf")}]])
def test_json_without_nan_and_infinity(tmp_path, value):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "value.json", value)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"\xff\xfe\x00", b"accuracy: 1"])
def test_broken_json_names_file_and_fix(tmp_path, content):
    path = tmp_path / "value.json"
    path.write_bytes(content)
    with pytest.raises(FerError, match=r"value\.json.*delete the run"):
        read_json(path, "delete the run")


def test_missing_json_names_file_and_fix(tmp_path):
    with pytest.raises(FerError, match=r"value\.json.*delete the run"):
        read_json(tmp_path / "value.json", "delete the run")


@given(st.lists(st.binary(max_size=6), max_size=5), st.lists(st.binary(max_size=6), max_size=5))
def test_digests_are_equal_only_for_equal_parts(first, second):
    assert (digest(*first) == digest(*second)) == (first == second)


@given(st.binary(min_size=1), st.data())
def test_digest_depends_on_where_the_parts_end(content, data):
    cut = data.draw(st.integers(0, len(content)))
    assert digest(content[:cut], content[cut:]) != digest(content)
    # A part that imitates the size prefix of the next is still another list of parts.
    assert digest(b"1:a", b"b") != digest(b"1", b"a1:b")


@given(st.text(), st.integers(1, 64))
def test_digest_has_the_wanted_length_and_reads_text_as_utf8(text, length):
    assert len(digest(text, length=length)) == length
    assert digest(text, length=64).startswith(digest(text.encode(), length=length))
    assert set(digest(text)) <= set("0123456789abcdef")


@pytest.mark.parametrize(("variable", "progress", "shown"), [
    (None, True, True), ("0", True, True), ("", True, True), ("1", True, False), (None, False, False)])
def test_a_bar_is_shown_only_where_nobody_minds_in_notebooks_too(variable, progress, shown, monkeypatch):
    if variable is None:
        monkeypatch.delenv("TQDM_DISABLE", raising=False)
    else:
        monkeypatch.setenv("TQDM_DISABLE", variable)
    bars = [kind(total=1, **bar_options(progress)) for kind in (tqdm.std.tqdm, tqdm.notebook.tqdm)]
    assert [bar.disable for bar in bars] == [not shown] * 2
    for bar in bars:
        bar.close()


# --- YAML and optional modules

@pytest.mark.parametrize(("text", "reason"), [
    ("a: [1, 2", "expected ',' or ']'"), ("[" * 30 + "]" * 30, "lists in lists in lists"), ("a: 2001-99-99", "month"),
    ("a: &a [*a]", "too many values"),
    ("a0: &a0 {p: 1}\n" + "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)),
     "aliases that stand for too many values")])
def test_yaml_that_is_none_or_becomes_much_is_refused_with_the_fix(text, reason, tmp_path):
    (tmp_path / "plan.yaml").write_text(text)
    with pytest.raises(FerError, match=r"plan\.yaml: is no YAML .*; mend it") as raised:
        read_yaml(tmp_path / "plan.yaml", "mend it")
    assert reason in str(raised.value)


def test_yaml_is_read_with_its_aliases(tmp_path):
    (tmp_path / "plan.yaml").write_text("x: &x {lr: 0.1}\nruns: [{<<: *x, seed: 1}]")
    assert read_yaml(tmp_path / "plan.yaml", "mend it") == {"x": {"lr": 0.1}, "runs": [{"lr": 0.1, "seed": 1}]}


def test_a_missing_optional_module_is_one_line_that_says_what_to_install():
    with pytest.raises(FerError, match=r"no_such_module is not installed; run pip install 'fer_helpers\[sweep\]'"):
        with needs_extra("sweep"):
            import no_such_module  # noqa: F401
    with pytest.raises(ModuleNotFoundError), needs_extra("sweep"):  # a fault of ours is no missing extra
        import fer_helpers.no_such_room  # noqa: F401


def test_the_repository_is_the_one_around_the_folder_or_the_package_s_own(clone, tmp_path_factory, monkeypatch):
    (clone / "notebooks").mkdir()
    for here in (clone, clone / "notebooks"):
        monkeypatch.chdir(here)
        assert home() == clone
    (clone / "pyproject.toml").write_text('[project]\nname = "another"\n')
    for here in (clone / "notebooks", tmp_path_factory.mktemp("elsewhere")):
        monkeypatch.chdir(here)
        assert home() == Path(__file__).parents[1]


@pytest.mark.parametrize("name", ["fer_helpers", "my clone"])
def test_a_package_that_lies_in_no_repository_finds_a_clone_in_the_folder(clone, tmp_path_factory, monkeypatch, name):
    here = tmp_path_factory.mktemp("content")
    monkeypatch.chdir(here)
    monkeypatch.setattr("fer_helpers.files.__file__", str(here / "site-packages" / "fer_helpers" / "files.py"))
    assert home() == here
    clone.rename(here / name)
    assert home() == here / name
