"""Torch computes with one thread where it is asked to, and as before afterwards, whatever happens."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from saerec_ray.torch_threads import one_torch_thread


@pytest.fixture(autouse=True)
def _three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_inside_there_is_one_thread_and_afterwards_as_many_as_before() -> None:
    with one_torch_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 3


def test_a_function_that_fails_leaves_no_trace() -> None:
    @one_torch_thread()
    def failing() -> None:
        assert torch.get_num_threads() == 1
        raise ValueError("on purpose")

    with pytest.raises(ValueError, match="on purpose"):
        failing()
    assert torch.get_num_threads() == 3
