"""What child processes of this package need to know."""

import os
import sys
from pathlib import Path

import sightline


def import_path() -> str:
    """Return the PYTHONPATH with which a child finds what is imported here, wherever that is.

    In our own order: a package folder before the standard library could shadow modules of it.
    """
    ours = str(Path(sightline.__file__).parent.parent)
    return os.pathsep.join(dict.fromkeys([*filter(os.path.isabs, sys.path), ours]))
