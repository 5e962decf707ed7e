"""The names of a pipeline's datasets in the lake and the catalog.

Added here: the name of a new dataset. Every module that reads or writes one takes its name from here.
"""


def source_dataset(pipeline: str, source: str) -> str:
    """Rows as delivered, typed; not gated, so no feature may read it."""
    return f"{pipeline}.source.{source}"


def clean_dataset(pipeline: str, source: str) -> str:
    """Rows that passed the source's gate."""
    return f"{pipeline}.clean.{source}"


def quarantine_dataset(pipeline: str, source: str) -> str:
    """Rows that the source's gate set aside, with the reason."""
    return f"{pipeline}.quarantine.{source}"


def features_dataset(pipeline: str) -> str:
    """One row an entity, known by the night."""
    return f"{pipeline}.features"


def labels_dataset(pipeline: str) -> str:
    """Labels by the night on which they became known."""
    return f"{pipeline}.labels"


def training_set_dataset(pipeline: str) -> str:
    """What a model was fitted on, by the night it was fitted for."""
    return f"{pipeline}.training_set"


def predictions_dataset(pipeline: str) -> str:
    """Scores, decisions and ranks of a night."""
    return f"{pipeline}.predictions"


def shadow_dataset(pipeline: str) -> str:
    """The scores of a night by the version of a rollout, which no reader sees."""
    return f"{pipeline}.shadow"
