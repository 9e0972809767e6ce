"""Every error of training, in one tree: each message is one sentence that says what to do."""


class TrainingError(Exception):
    """What ends a command with its sentence and exit code 1, not with a traceback."""


class OptionError(TrainingError):
    """A command's option that names nothing there is."""


class DataError(TrainingError):
    """Photos, labels or a folder of pairs that cannot be used."""


class RecipeError(TrainingError):
    """A recipe that is unknown, contradicts itself or does not fit the data."""


class FeaturesUnavailable(TrainingError):
    """The weights of a perceptual network are missing, damaged or of another layout."""


class RunError(TrainingError):
    """The folder of a run that cannot be used."""


class Stopped(RunError):
    """The run was told to stop; its checkpoint is saved."""


class RunNotFound(RunError):
    """A folder that holds no run."""


class RunConflict(RunError):
    """A folder that holds a run of another recipe, seed or data."""


class CheckpointError(RunError):
    """A checkpoint that is missing or cannot be read."""


class ExportError(TrainingError):
    """A model that cannot be exported, or whose export does not draw what torch draws."""


class ResultsError(TrainingError):
    """Scores, recorded results or a document that do not fit together."""
