import argparse
import sys

from tests.abuse.own import own_server
from tests.abuse.runner import Report, Runner
from tests.abuse.traps import listening
from tests.abuse.wire import Target

OWN_KEY = "sl-abuse-0123456789abcdef"
OWN_MODEL = "sightline-fake"


def run_own(step: int = 1, only: str = "") -> Report:
    """Attack a server of our own."""
    with (
        listening(with_redirector=True) as traps,
        own_server("--key", OWN_KEY, "--media-host", f"127.0.0.1:{traps.redirector}") as own,
    ):
        target = Target.of(own.url, OWN_MODEL, OWN_KEY)
        own.worst_stall_s()  # what it took to start is not laid at a request's door
        return Runner(target, traps, own, step).run(only)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.abuse", description=__doc__)
    parser.add_argument("url", nargs="?", help="a server to attack; without: one of our own")
    parser.add_argument("--model", default=OWN_MODEL)
    parser.add_argument("--key", default="")
    parser.add_argument("--step", type=int, default=1, help="send every N-th row of each group")
    parser.add_argument("--only", default="", help="groups whose name begins so")
    arguments = parser.parse_args()
    if arguments.url is None:
        report = run_own(arguments.step, arguments.only)
    else:
        target = Target.of(arguments.url, arguments.model, arguments.key)
        with listening(with_redirector=False) as traps:
            report = Runner(target, traps, step=arguments.step).run(arguments.only)
    print("\n".join(report.lines()))
    return not report.is_clean


if __name__ == "__main__":
    sys.exit(main())
