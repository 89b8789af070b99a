"""What every test shares: how hypothesis searches, and figures that need no screen."""

import os

import hypothesis

# matplotlib reads this when it is first imported, which happens inside the tests that draw.
os.environ.setdefault("MPLBACKEND", "Agg")

# One fixed search on every machine: a red test is red for everybody, and a slow machine is no reason to fail.
hypothesis.settings.register_profile("mixsolve", deadline=None, derandomize=True, print_blob=True)
# For a longer hunt: pytest --hypothesis-profile=explore
hypothesis.settings.register_profile("explore", deadline=None, max_examples=2000)
hypothesis.settings.load_profile("mixsolve")
