"""Errors that a user can meet. Each message says what was wrong, where, and what to do."""

from __future__ import annotations

import signal

ON_CORRUPT = ("error", "skip")  # what is done about a corrupt image: raise, or leave it out and count it


class DataError(ValueError):
    """A data file, record, image or label is not what it should be; the message names file, key and offset."""


class CutError(DataError):
    """A data file has become shorter while it was in use: no corrupt image to be skipped."""


class ConfigError(ValueError):
    """A recipe key is unknown, mistyped or out of range; the message names the key, the value and what is allowed."""


class CheckpointError(ValueError):
    """A checkpoint is cut short, of another recipe, or not a checkpoint; the message names the difference."""


class TrainingError(RuntimeError):
    """Training cannot go on (too many non-finite steps in a row); the message names the last good checkpoint."""


class Stopped(RuntimeError):
    """A run was asked to leave and has saved; the message says after which step, and how it goes on.

    Attributes:
        status: exit status of the program, 128 and the number of the signal.
    """

    def __init__(self, message: str, number: int = signal.SIGTERM) -> None:
        super().__init__(message)
        self.status = 128 + number


def mark_said(error: BaseException) -> BaseException:
    """The same error, whose reason is in the log and on standard error by now: nobody says it again."""
    error._said = True  # type: ignore[attr-defined]
    return error


def is_said(error: BaseException) -> bool:
    """Whether `mark_said` has marked it."""
    return getattr(error, "_said", False)
