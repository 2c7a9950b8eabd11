"""The crash tests' helpers, and how many kills a storm has."""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

_FILE = Path(__file__).parents[1] / "crash" / "conftest.py"
_SPEC = spec_from_file_location("crash_helpers", _FILE)
assert _SPEC is not None
assert _SPEC.loader is not None
_MODULE = module_from_spec(_SPEC)
sys.modules["crash_helpers"] = _MODULE
_SPEC.loader.exec_module(_MODULE)
crash = _MODULE.crash


def pytest_addoption(parser):
    parser.addoption("--kills", type=int, default=1000, help="kills of a storm (tests/chaos)")
    parser.addoption("--storm-seed", type=int, default=1, help="seed of a storm (tests/chaos)")
