"""Batches are the same wherever their pixels are gathered from, and however an epoch ends."""

import threading

import pytest
import torch

from fer_helpers.training.prefetch import Prefetcher

COUNT = 20
IMAGES = torch.randint(256, (2 * COUNT, 48, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
ROWS = torch.randperm(2 * COUNT, generator=torch.Generator().manual_seed(1))[:COUNT]


def epoch(seed: int, size: int) -> tuple[torch.Tensor, ...]:
    return torch.randperm(COUNT, generator=torch.Generator().manual_seed(seed)).split(size)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("size", [1, 4, 6, COUNT, 50])
def test_every_batch_of_every_epoch_comes_once_with_its_pixels(size, streamed):
    prefetcher = Prefetcher([IMAGES, IMAGES // 2], ROWS, "cpu", streamed)
    for seed in range(2):
        batches = list(prefetcher.iterate(iter(epoch(seed, size))))
        assert [index.tolist() for index, _ in batches] == [index.tolist() for index in epoch(seed, size)]
        for index, (images, halves) in batches:
            assert torch.equal(images, IMAGES[ROWS][index]) and torch.equal(halves, images // 2)


@pytest.mark.parametrize("left_after", [1, 3, 5])
def test_an_epoch_that_is_left_leaves_no_thread_behind(left_after):
    prefetcher, before = Prefetcher([IMAGES], ROWS, "cpu", True), threading.active_count()
    batches = prefetcher.iterate(epoch(0, 4))
    for _ in range(left_after):
        next(batches)
    assert threading.active_count() == before + 1
    batches.close()
    assert threading.active_count() == before
    assert len(list(prefetcher.iterate(epoch(1, 4)))) == 5


def test_the_next_batch_is_read_while_the_caller_works_with_one():
    for streamed in (False, True):
        asked = []
        watched = (asked.append(index) or index for index in epoch(0, 4))
        next(batches := Prefetcher([IMAGES], ROWS, "cpu", streamed).iterate(watched))
        assert len(asked) == 1 + streamed
        batches.close()


def test_an_error_while_reading_reaches_the_caller():
    with pytest.raises(IndexError):
        list(Prefetcher([IMAGES[:1]], ROWS, "cpu", True).iterate(epoch(0, 4)))
