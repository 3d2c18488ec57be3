"""Randomness is an argument and leaves no trace."""

import pytest
import torch

from contrans.core.seeds import generator, seeded


def test_scope_repeats_and_leaves_the_outside_alone():
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    with seeded(1):
        first = torch.rand(2)
    assert torch.equal(torch.rand(2), expected)
    with seeded(1):
        assert torch.equal(torch.rand(2), first)


def test_scope_restores_after_an_error():
    state = torch.get_rng_state()

    def draw_and_fail():
        torch.rand(1)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), seeded(1):
        draw_and_fail()
    assert torch.equal(torch.get_rng_state(), state)


def test_generators_repeat():
    draws = [torch.rand(3, generator=generator(seed)) for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


@pytest.mark.parametrize("seed", [10**40, -(10**40)])
def test_a_seed_beyond_64_bits_is_refused(seed):
    with pytest.raises(ValueError, match="the seed is too large"):
        generator(seed)
    with pytest.raises(ValueError, match="the seed is too large"), seeded(seed):
        pass
