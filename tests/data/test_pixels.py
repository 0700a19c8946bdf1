"""Images on disk are, wherever they are looked at, what the same images in memory are."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import easy_images
from corpus import faces_of
from hypothesis import given
from hypothesis import strategies as st

from fer_helpers.data import pixels
from fer_helpers.data.duplicates import exact_groups, near_groups
from fer_helpers.data.pixels import DiskImages, DiskWindow, Window
from fer_helpers.files import FerError

COUNT = 20


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> tuple[DiskImages, torch.Tensor]:
    images = faces_of(COUNT)
    np.save(path := tmp_path_factory.mktemp("pixels") / "images.npy", images)
    return DiskImages(path), torch.from_numpy(images)


@given(rows=st.lists(st.integers(-COUNT, COUNT - 1), max_size=30), cut=st.slices(COUNT), data=st.data())
def test_any_index_gives_what_it_gives_of_a_tensor(pair, rows, cut, data):
    on_disk, in_memory = pair
    index = np.array(rows, dtype=np.int64)
    for key in (index, torch.from_numpy(index), torch.arange(COUNT) % 3 == 0, *rows[:1]):
        assert torch.equal(on_disk[key], in_memory[key])
    assert torch.equal(on_disk[cut], torch.from_numpy(in_memory.numpy()[cut].copy()))
    if rows:
        again = np.array(data.draw(st.lists(st.integers(0, len(rows) - 1))), dtype=np.int64)
        part = on_disk.take(index).take(again)
        assert torch.equal(part[:], in_memory[index][again]) and part.shape == (len(again), 48, 48)


@pytest.mark.parametrize("size", [1, 7, COUNT, 100])
def test_parts_are_those_of_a_tensor(pair, size):
    on_disk, in_memory = pair
    for ours, theirs in ((on_disk.split(size), in_memory.split(size)),
                         ([part[:] for part in on_disk.tensor_split(size)], in_memory.tensor_split(size))):
        assert all(torch.equal(mine, other) for mine, other in zip(ours, theirs, strict=True))
    assert len(list(on_disk)) == COUNT


def test_whatever_else_a_tensor_does_is_done_in_memory_unless_there_are_too_many(pair, monkeypatch):
    on_disk, in_memory = pair
    assert torch.equal(on_disk.flatten(1).float().mean(1), in_memory.flatten(1).float().mean(1))
    monkeypatch.setattr(pixels, "MOST_IN_MEMORY", 10)
    with pytest.raises(FerError, match=r"images.npy: float would read 20 images .*FaceSet.limit_train"):
        on_disk.float()
    assert on_disk.take(np.arange(10)).float().shape == (10, 48, 48)


def test_another_process_can_be_handed_them(pair):
    part = pickle.loads(pickle.dumps(pair[0].take(np.array([3, 1]))))
    assert torch.equal(part[:], pair[1][[3, 1]])


def test_copies_are_found_without_reading_all_at_once(tmp_path):
    images = easy_images(np.arange(40) % 7, seed=1)
    images[20:25] = images[:5]
    images[30] = (images[6].float() * 0.7 + 20).byte()
    np.save(tmp_path / "images.npy", images.numpy())
    on_disk = DiskImages(tmp_path / "images.npy")
    assert np.array_equal(exact_groups(on_disk), exact_groups(images)) and len(set(exact_groups(on_disk))) == 35
    assert np.array_equal(near_groups(on_disk), near_groups(images)) and len(set(near_groups(on_disk))) == 34


def damaged(path: Path, how: str) -> Path:
    np.save(path, faces_of(3).astype(np.float32 if how == "floats" else np.uint8)[:, :, 0 if how == "flat" else ...])
    data = path.read_bytes()
    path.write_bytes({"short": data[:-1], "long": data + b"0", "text": b"hello", "empty": b""}.get(how, data))
    if how == "missing":
        path.unlink()
    return path


@pytest.mark.parametrize("how", ["short", "long", "text", "empty", "floats", "flat", "missing"])
def test_a_file_that_is_not_what_it_should_be_is_named(how, tmp_path):
    with pytest.raises(FerError, match=r"images.npy: .*(fer data cache|check the path)"):
        DiskImages(damaged(tmp_path / "images.npy", how))


def test_a_file_cut_short_while_it_is_used_is_an_error_not_a_crash(tmp_path):
    np.save(path := tmp_path / "images.npy", faces_of(3))
    images = DiskImages(path)
    path.write_bytes(path.read_bytes()[:5000])
    assert images[0].shape == (48, 48)
    with pytest.raises(FerError, match=r"images.npy: was cut short while it was read; delete the folder"):
        images[[0, 2]]


@pytest.mark.parametrize("left_after", [1, 3, 5])
def test_a_window_shows_the_batches_of_every_epoch_also_after_one_that_was_left(pair, left_after):
    on_disk, in_memory = pair
    window, plain = DiskWindow(on_disk, torch.arange(4), 4, "cpu"), Window(in_memory, "cpu")
    place = window.pixels.data_ptr()
    for epoch in range(2):
        order = torch.randperm(COUNT, generator=torch.Generator().manual_seed(epoch)).split(4)
        for number, index in enumerate(window.follow(iter(order)), 1):
            assert torch.equal(window.pixels[window.show(index)], plain.pixels[plain.show(index)])
            if epoch == 0 and number == left_after:
                break
    assert not window.ahead
    unforeseen = torch.tensor([9, 9, 0, 19])
    assert torch.equal(window.pixels[window.show(unforeseen)], in_memory[unforeseen])
    assert window.pixels.data_ptr() == place  # where a recording of the step expects it


@pytest.mark.parametrize("size", [3, 6, 8])
def test_a_window_shows_a_smaller_last_batch_and_the_whole_ones_after_it(size, pair):
    on_disk, in_memory = pair
    window = DiskWindow(on_disk, torch.arange(size), size, "cpu")
    for epoch in range(2):
        order = torch.randperm(COUNT, generator=torch.Generator().manual_seed(epoch)).split(size)
        assert 0 < len(order[-1]) < size
        for index in window.follow(iter(order)):
            assert torch.equal(window.pixels[window.show(index)], in_memory[index])
    assert torch.equal(window.pixels[window.show(torch.tensor([5]))], in_memory[[5]])


def test_a_process_of_a_team_reads_its_own_share_only(pair):
    on_disk, in_memory = pair
    window, index = DiskWindow(on_disk, torch.tensor([1, 3]), 4, "cpu"), torch.tensor([8, 6, 4, 2])
    places = window.show(index)
    assert torch.equal(window.pixels[places][[1, 3]], in_memory[[6, 2]]) and not window.pixels[[0, 2]].any()
