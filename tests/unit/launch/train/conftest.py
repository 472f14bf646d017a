import pytest


@pytest.fixture(autouse=True)
def _logging_of_llamafactory(monkeypatch):
    """Tests read its log, which other tests of the same process have quietened for all that they start."""
    monkeypatch.setenv("LLAMAFACTORY_VERBOSITY", "INFO")
