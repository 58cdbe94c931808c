"""The program: what `sightline` and `python -m sightline` run."""

import signal

INTERRUPTED = 130  # as shells say it of a program that Ctrl-C has ended


def main() -> None:
    """Run the command line. Ctrl-C that no command takes ends it without a traceback."""
    # To import the commands takes a quarter of a second. Nothing has begun that would be undone.
    is_usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_usual:  # and not ignored, as nohup and some shells want it
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from sightline.cli.main import main as run

    if is_usual:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        run()
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None


if __name__ == "__main__":
    main()
