"""Every error of training, in one tree: each message is one sentence that says what to do.

TrainingError
└── DataError    photos, labels or pairs that cannot be used
"""


class TrainingError(Exception):
    """What ends a command with its sentence and exit code 1, not with a traceback."""


class DataError(TrainingError):
    """Photos, labels or a folder of pairs that cannot be used."""
