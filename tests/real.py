"""Tools that tests run for real: without one a test is skipped and says so, or fails where all must run.

`TESTS_REQUIRE_REAL=1` makes a missing tool a failure: continuous integration sets it, so that no test
is left out unseen.
"""

import os
import shutil

import pytest

REQUIRE_REAL = "TESTS_REQUIRE_REAL"

NAMES = {"chromium": ("chromium", "chromium-browser", "google-chrome")}
"""Commands under which a tool is known, where its own name is not the only one."""


SYSTEM = "/usr/sbin:/usr/local/sbin"
"""Where servers like mosquitto stand, which is not in everybody's PATH."""


def require(tool: str) -> str:
    """The path of `tool`; where it is missing the test is skipped, or fails if everything has to run."""
    for name in NAMES.get(tool, (tool,)):
        if path := shutil.which(name) or shutil.which(name, path=SYSTEM):
            return path
    told = f"{tool} is not installed"
    if os.environ.get(REQUIRE_REAL) == "1":
        pytest.fail(f"{told}, and {REQUIRE_REAL}=1 wants every test to run")
    pytest.skip(told)
