"""The one exception tree of RiskFuse.

Every leaf is also a standard-library type, so that a caller who does not know RiskFuse still catches what
it expects. No class defines ``__init__``: instances pickle, and so travel across processes and Ray.
"""

__all__ = [
    "ConfigError",
    "DataError",
    "FingerprintMismatch",
    "PhotoError",
    "RiskFuseError",
    "StepError",
    "StoreError",
    "StoreForbidden",
]


class RiskFuseError(Exception):
    """Base of every error that a user can mend. The CLI prints it as one message and exits with code 2."""


class ConfigError(RiskFuseError, ValueError):
    """A task card, recipe or pipeline says something impossible. Names the file, the field and the remedy."""


class DataError(RiskFuseError, ValueError):
    """A label list, table, photo directory or data set directory is not what it must be."""


class PhotoError(DataError):
    """One photo cannot be used. The message is the reason that the manifest records."""


class FingerprintMismatch(RiskFuseError, RuntimeError):  # noqa: N818 - says what was found
    """Results on disk were made from other inputs or another configuration than the ones given now."""


class StoreError(RiskFuseError, ConnectionError):
    """A store behind a URI does not answer, or not as it should."""


class StoreForbidden(RiskFuseError, PermissionError):  # noqa: N818 - says what was found
    """A store behind a URI answers, and does not let us read or write."""


class StepError(RiskFuseError, RuntimeError):
    """A step of a pipeline, or a process that it started, failed."""
