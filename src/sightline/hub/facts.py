"""What is known of a model by its name, whether it is here or not."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sightline.core.errors import StartupError
from sightline.hub.known import known_folder
from sightline.hub.local import existing_path, name_of, resolve_model
from sightline.hub.names import KNOWN_MODELS, KnownModel, known_model, split_quantisation
from sightline.models.facts import ModelFacts, read_facts


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedFacts:
    """`folder` is where the model is on this machine; None: it would have to be downloaded.

    `spelled` is how commands find it, which may be a path.
    """

    name: str
    spelled: str
    folder: Path | None
    facts: ModelFacts


def facts_of(name: str, folders: Sequence[Path]) -> NamedFacts:
    """Read what `name` means: a folder, a model in `folders`, or a known one that is not here.

    A `:int8` or `:int4` behind it changes nothing here.

    A folder needs no weights, only its config.json. Raises StartupError.
    """
    spelled = name if existing_path(name) is not None else split_quantisation(name)[0]
    try:
        folder = resolve_model(spelled, folders)
    except StartupError as error:
        known = known_model(spelled)
        if known is None or error.code == "model_hidden":
            raise
        return _of(known)
    return NamedFacts(
        name=name_of(folder), spelled=spelled, folder=folder, facts=read_facts(folder)
    )


def all_known() -> list[NamedFacts]:
    """Return what is known of every model that can be had by a short name."""
    return [_of(model) for model in KNOWN_MODELS]


def _of(model: KnownModel) -> NamedFacts:
    facts = read_facts(known_folder(model))
    return NamedFacts(name=model.name, spelled=model.name, folder=None, facts=facts)
