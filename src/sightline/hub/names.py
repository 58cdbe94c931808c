"""Short names of models, and where both hubs keep them."""

import difflib
import re
from dataclasses import dataclass
from typing import Literal, get_args

from sightline.core.errors import StartupError, shorten

REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
# A page of a model as people copy it from a browser, or the address of a clone, of which the
# beginning may be missing. Of ModelScope's only clones do without `models`.
PAGE = re.compile(
    r"(?:https?://|git@|hf://)?(?:(?<=hf://)|(?:www\.)?"
    r"(?:huggingface\.co|hf\.co|hf-mirror\.com|modelscope\.(?:cn|ai)(?:/models)?)[/:])"
    rf"((?!(?:models|datasets|spaces|studios|collections)/){REPOSITORY.pattern})(?:[/?#].*)?",
    re.IGNORECASE,
)
Quantisation = Literal["int8", "int4"]


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownModel:
    """A model that sightline runs. `huggingface` and `modelscope` are its repositories there."""

    name: str
    huggingface: str
    modelscope: str
    licence: str
    aliases: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Every spelling, the repositories also without their owner."""
        spelled = (self.name, *self.aliases, self.huggingface, self.modelscope)
        return (*spelled, *(name.rpartition("/")[2] for name in spelled))

    def repository(self, hub: str) -> str:
        return self.huggingface if hub == "huggingface" else self.modelscope


def _glm(name: str, *aliases: str) -> KnownModel:
    return KnownModel(
        name=name,
        huggingface=f"zai-org/{name}",
        modelscope=f"ZhipuAI/{name}",
        licence="GLM-4 licence: register for commercial use",
        aliases=(*aliases, f"THUDM/{name}"),
    )


def _qwen(repository: str, licence: str) -> KnownModel:
    return KnownModel(
        name=repository.lower().removesuffix("-instruct"),
        huggingface=f"Qwen/{repository}",
        modelscope=f"Qwen/{repository}",
        licence=licence,
    )


_TONGYI = "Tongyi Qianwen licence: ask for leave above 100 million users"
KNOWN_MODELS = (
    _glm("glm-4v-9b", "glm-4v"),
    _glm("glm-4-9b-chat"),
    _glm("glm-4-9b-chat-1m"),
    _qwen("Qwen-VL-Chat", _TONGYI),
    _qwen("Qwen2-VL-2B-Instruct", "Apache-2.0"),
    _qwen("Qwen2-VL-7B-Instruct", "Apache-2.0"),
    _qwen("Qwen2.5-VL-3B-Instruct", "Qwen research licence: not for commercial use"),
    _qwen("Qwen2.5-VL-7B-Instruct", "Apache-2.0"),
)


def split_quantisation(name: str) -> tuple[str, Quantisation | None]:
    """Take `:int8` or `:int4` off the end of a name, and the slash that shells complete."""
    for quantisation in get_args(Quantisation):
        if name.rstrip().lower().endswith(f":{quantisation}"):
            return _without_slash(name.rstrip()[: -len(quantisation) - 1]), quantisation
    return _without_slash(name), None


def known_model(name: str) -> KnownModel | None:
    """Return the model of this name, alias, repository or page; letters of either case."""
    wanted = plain_name(name).lower()
    for model in KNOWN_MODELS:
        if wanted in (known.lower() for known in model.names):
            return model
    return None


def find_model(name: str) -> KnownModel:
    """Return the model that `name` means: a known one, or any repository `OWNER/NAME` or its page.

    A `:int8` or `:int4` behind it says how it is run; the files are the same. Raises StartupError
    with the three nearest names for anything else.
    """
    name, _ = split_quantisation(name)
    model = known_model(name)
    if model is not None:
        return model
    name = plain_name(name)
    if REPOSITORY.fullmatch(name):
        return KnownModel(
            name=own_name(name),
            huggingface=name,
            modelscope=name,
            licence="see its page",
        )
    near = ", ".join(nearest_names(name))
    raise StartupError(
        f"There is no model {shorten(name)}. Nearest: {near}. "
        "`sightline models --all` lists those that can be had; OWNER/NAME names any other.",
        code="model_unknown",
        values={"name": shorten(name), "near": near},
    )


def own_name(repository: str) -> str:
    """Return the short name of a repository; where a known model has that name, with its owner."""
    owner, _, name = repository.rpartition("/")
    return name if not owner or known_model(name) is None else f"{owner}--{name}"


def _without_slash(name: str) -> str:
    return name.rstrip("/") or name


def plain_name(name: str) -> str:
    """Return `name` without blanks around it, of a page or a clone's address the repository."""
    name = name.strip()
    found = PAGE.fullmatch(name)
    return name if found is None else found[1].removesuffix(".git")


def nearest_names(name: str, count: int = 3) -> list[str]:
    """Return the names of known models that `name` may have meant, likeliest first."""
    shorter = [model.name for model in KNOWN_MODELS]
    wanted = name.lower().rpartition("/")[2]
    return difflib.get_close_matches(wanted, shorter, n=count, cutoff=0.0)
