"""config.json of the known models, so that their sizes can be told before anything is downloaded.

Only what sizes and shapes follow from; a model that is here is always read from its own files.
"""

from pathlib import Path

from sightline.hub.names import KnownModel

_HERE = Path(__file__).parent


def known_folder(model: KnownModel) -> Path:
    """Return the folder with the model's config.json and, for some, preprocessor_config.json."""
    return _HERE / model.name
