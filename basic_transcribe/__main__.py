"""``python -m basic_transcribe``."""

import signal


def main() -> None:
    """Run the command line, and exit."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until there are other handlers: no traceback of an import
    from .cli import main as run  # here, since the workers of a batch import this module and need none of that

    run()


if __name__ == "__main__":
    main()
