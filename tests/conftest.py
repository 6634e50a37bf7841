"""Settings shared by all tests: the same examples, threads and plotting backend on every machine."""

import os
import random
import sys

# Before any numerical library is imported: the tests run side by side, one thread each. Processes that they start may have
# more, which are to sleep while they wait: on cores that are all taken, turning in a circle doubles what a sweep costs.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("MPLBACKEND", "Agg")

import pytest
from figure_helpers import page, window  # noqa: F401  (fixtures of the figures' tests)
from hypothesis import HealthCheck, settings

settings.register_profile(
    "anabook",
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("anabook")


@pytest.fixture(autouse=True)
def _the_same_draws_whatever_ran_before():
    """Seed the global generators, so that a test's weights and inputs do not depend on the tests that ran before it."""
    random.seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)
