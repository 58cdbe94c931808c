"""The bundled model is asked about a picture, through the whole server and its engine process."""

import contextlib
import importlib
import sys
import time
from dataclasses import replace

from sightline.cli.doctor.machine import SelfTest
from sightline.cli.doctor.torch_process import TorchProcess
from sightline.client.errors import ClientError
from sightline.core.errors import SightlineError
from sightline.core.limits import MIB
from sightline.settings import Settings, resolve

QUESTION = "What is this?"
EXPECTED = ("red", "circle")
KV_BYTES = 32 * MIB
PARTS = (
    "sightline.assembly",
    "sightline.backends.process",
    "sightline.cli.serve",
    "sightline.client.chat",
    "sightline.media.loader",
    "sightline.models.tokenizer_files",
    "sightline.plan",
    "sightline.playground.site",
    "sightline.server.app",
    "sightline.server.serve",
    "sightline.service.chat",
)


def load_parts() -> None:
    """Import what the self-test needs; torch is being loaded in another process meanwhile."""
    with contextlib.suppress(Exception):  # the self-test says what is wrong
        for name in PARTS:
            importlib.import_module(name)


def ask_bundled_model(settings: Settings, torch_process: TorchProcess) -> SelfTest:
    """Return the answer to a question whose answer is known."""
    try:
        answer, seconds = _ask(settings, torch_process)
    except (SightlineError, ClientError) as error:
        problem = str(error).replace("\n", " ")
    except Exception as error:  # whatever breaks here is what the doctor was called for
        problem = f"{type(error).__name__}: {error}".replace("\n", " ")
    else:
        return SelfTest(expected=EXPECTED, answer=answer, seconds=seconds)
    print(torch_process.log(), end="", file=sys.stderr)
    return SelfTest(expected=EXPECTED, problem=problem)


def _ask(settings: Settings, torch_process: TorchProcess) -> tuple[str, float]:
    """Return the answer, and how long it took with the start of everything but torch."""
    began = time.monotonic()
    from sightline.assembly import server_in_thread
    from sightline.cli.serve import EXAMPLE_PICTURE
    from sightline.client.chat import Client
    from sightline.client.wire import image_part, text_part

    plain = resolve(environ={})
    # One question needs little memory, and nothing that takes time at the start to save it later.
    model = replace(
        plain.model,
        device=settings.model.device,
        kv_cache_memory=KV_BYTES,
        max_num_seqs=2,
        attention_backend="sdpa",
        cuda_graphs=False,
    )
    chosen = replace(plain, model=model, limits=replace(plain.limits, decode_workers=1))
    content = [image_part(EXAMPLE_PICTURE), text_part(QUESTION)]
    with (
        server_in_thread(chosen, waiting=torch_process.process) as server,
        Client(server.url, api_key=server.api_key) as client,
    ):
        chunks = client.stream(
            [{"role": "user", "content": content}], model=server.model_id, temperature=0
        )
        return "".join(chunk.text for chunk in chunks).strip(), time.monotonic() - began
