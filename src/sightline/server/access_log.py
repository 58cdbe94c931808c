"""One JSON line per request: escaped, on one line, never content."""

import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime

logger = logging.getLogger("sightline.access")


def log_access(facts: Mapping[str, object]) -> None:
    """Write `facts`, which must fit into JSON, with the time in front."""
    time = datetime.now(UTC).isoformat(timespec="milliseconds")
    logger.info("%s", json.dumps({"time": time, **facts}, ensure_ascii=True))
