"""What a request hears when no engine can take it."""

import math

from sightline.core.errors import RequestError, Unavailable


def loading() -> Unavailable:
    return Unavailable("The model is loading; retry in 1 s.", code="model_loading")


def restarting(retry_after_s: float = 1.0) -> Unavailable:
    seconds = max(1, math.ceil(retry_after_s))
    return Unavailable(
        f"The engine is restarting; retry in {seconds} s.",
        code="engine_restarting",
        retry_after_s=seconds,
    )


def draining() -> Unavailable:
    return Unavailable("The server is shutting down.", code="draining")


def quarantined() -> RequestError:
    return RequestError(
        "This prompt was being processed when the engine failed, twice; it is not tried again.",
        code="invalid_value",
        param="messages",
    )
