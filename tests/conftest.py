"""Fixtures of more than one folder of tests."""

import pytest

from flashworld_core.runtime.threads import set_short_spin

set_short_spin()  # before anything imports torch

from small_configs import small_config as make_small_config  # noqa: E402


@pytest.fixture(scope="session")
def small_config():
    """``small_config(**changes)``: a very small FlashWorld; ``vae`` and ``transformer`` are merged."""
    return make_small_config
