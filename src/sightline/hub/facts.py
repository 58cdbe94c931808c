"""What is known of a model by its name, whether it is here or not."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sightline.core.errors import StartupError
from sightline.hub.known import known_folder
from sightline.hub.local import resolve_model
from sightline.hub.names import KNOWN_MODELS, known_model, split_quantisation
from sightline.models.facts import ModelFacts, read_facts


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedFacts:
    """`folder` is where the model is on this machine; None: it would have to be downloaded."""

    name: str
    folder: Path | None
    facts: ModelFacts


def facts_of(name: str, folders: Sequence[Path]) -> NamedFacts:
    """Read what `name` means: a folder, a model in `folders`, or a known one that is not here.

    A folder needs no weights, only its config.json. Raises StartupError.
    """
    try:
        folder = resolve_model(name, folders)
    except StartupError:
        known = known_model(split_quantisation(name)[0])
        if known is None:
            raise
        return NamedFacts(name=known.name, folder=None, facts=read_facts(known_folder(known)))
    return NamedFacts(name=folder.resolve().name, folder=folder, facts=read_facts(folder))


def all_known() -> list[NamedFacts]:
    """Return what is known of every model that can be had by a short name."""
    return [
        NamedFacts(name=model.name, folder=None, facts=read_facts(known_folder(model)))
        for model in KNOWN_MODELS
    ]
