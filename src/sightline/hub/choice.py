"""Which hub a model comes from, and which of the files it lists there are needed."""

import re
import threading
from collections.abc import Sequence
from queue import Empty, Queue

from sightline.core.errors import StartupError, shorten
from sightline.hub.names import KnownModel, known_model, nearest_names
from sightline.hub.remote import Hub, HubFailed, Listing, RemoteFile
from sightline.models.tokenizer_files import TOKENIZER_FILES

RACE_S = 30.0
# What a hub says of what it does not have, or does not show to everybody.
_NOT_TO_BE_HAD = ("hub_missing", "hub_wants_key", "hub_gated")

SMALL_FILES = (
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "tokenizer.json",
    "qwen.tiktoken",
    "LICENSE",
)
SAFETENSORS = re.compile(r"model(-\d+-of-\d+)?\.safetensors|model\.safetensors\.index\.json")
WEIGHTS = re.compile(r"\.(safetensors|bin)$")
MAX_SMALL_BYTES = 64 * 1024 * 1024
PICKLES = re.compile(r"pytorch_model(-\d+-of-\d+)?\.bin|pytorch_model\.bin\.index\.json")


def choose_hub(
    model: KnownModel,
    hubs: Sequence[Hub],
    refusals: Sequence[StartupError] = (),
) -> tuple[Hub, Listing]:
    """Ask all at once and take the first that lists a whole model.

    Raises StartupError if none does, which tells the `refusals` of hubs asked before, too.
    """
    answers: Queue[tuple[Hub, Listing | StartupError]] = Queue()

    def ask(hub: Hub) -> None:
        try:
            listing = hub.list(model.repository(hub.name))
            needed_files(listing)
            answers.put((hub, listing))
        except StartupError as error:
            answers.put((hub, error))

    for hub in hubs:
        threading.Thread(target=ask, args=(hub,), daemon=True).start()
    refused: list[StartupError] = list(refusals)
    silent = {hub.name: hub for hub in hubs}
    try:
        while silent:
            hub, answer = answers.get(timeout=RACE_S)
            if isinstance(answer, Listing):
                return hub, answer
            refused.append(answer)
            del silent[hub.name]
    except Empty:
        names = ", ".join(f"{name}{hub.way}" for name, hub in sorted(silent.items()))
        refused.append(
            HubFailed(
                f"{names}: no answer within {RACE_S:g} s.",
                code="hub_silent",
                values={"hubs": names, "seconds": f"{RACE_S:g}"},
                is_passing=True,
            )
        )
    raise no_hub_gave(model, refused)


def no_hub_gave(model: KnownModel, refusals: Sequence[StartupError]) -> StartupError:
    """Return the error that tells why each hub did not give the model, and what it may be named."""
    if len(refusals) == 1 and refusals[0].code not in _NOT_TO_BE_HAD:
        return refusals[0]
    reasons = " ".join(refusal.message for refusal in refusals)
    is_unknown = known_model(model.name) is None and known_model(model.huggingface) is None
    if is_unknown and all(refusal.code in _NOT_TO_BE_HAD for refusal in refusals):
        near = ", ".join(nearest_names(model.huggingface))
        return StartupError(
            f"No hub gave the model. {reasons} Nearest known names: {near}; "
            "`sightline models --all` lists them all.",
            code="hub_none_knows",
            values={"near": near},
            causes=refusals,
        )
    if len(refusals) == 1:
        return refusals[0]
    return StartupError(f"No hub gave the model. {reasons}", code="hub_none", causes=refusals)


def needed_files(listing: Listing) -> list[RemoteFile]:
    """Return weights, configuration and tokenizer, small ones first; never code.

    Safetensors go before pickles. Raises StartupError if the repository is no model.
    """
    by_name = {file.name: file for file in listing.files}
    weights = [by_name[name] for name in sorted(by_name) if SAFETENSORS.fullmatch(name)]
    if not weights:
        weights = [by_name[name] for name in sorted(by_name) if PICKLES.fullmatch(name)]
    if "config.json" not in by_name or not weights:
        raise StartupError(
            f"{shorten(listing.repository)} on {listing.hub} holds no config.json or no weights "
            "that sightline reads (model*.safetensors, pytorch_model*.bin).",
            code="pull_no_model",
            values={"repository": shorten(listing.repository), "hub": listing.hub},
        )
    if by_name.keys().isdisjoint(TOKENIZER_FILES):
        raise StartupError(
            f"{shorten(listing.repository)} on {listing.hub} holds no tokenizer that sightline "
            f"reads ({', '.join(TOKENIZER_FILES)}).",
            code="pull_no_tokenizer",
            values={"repository": shorten(listing.repository), "hub": listing.hub},
        )
    weights.sort(key=lambda file: not is_small(file))
    files = [by_name[name] for name in SMALL_FILES if name in by_name] + weights
    for file in files:
        can_be = 0 <= file.size <= MAX_SMALL_BYTES if is_small(file) else file.size > 0
        if not can_be:
            raise StartupError(
                f"{file.name} on {listing.hub} has {file.size} bytes, which cannot be.",
                code="pull_impossible",
                values={"file": file.name, "hub": listing.hub, "size": file.size},
            )
    return files


def is_small(file: RemoteFile) -> bool:
    """Whether it is no weights, but what tells of them: it comes first."""
    return WEIGHTS.search(file.name) is None
