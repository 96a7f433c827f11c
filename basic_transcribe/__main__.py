"""``python -m basic_transcribe``."""

import os
import signal
import sys


def main() -> None:
    """Run the command line, and exit."""
    # A standard stream that is closed leads nowhere from now on. The next file to be opened would take its place, and
    # get what C libraries print.
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until there are other handlers: no traceback of an import
    if getattr(sys, "frozen", False):  # PyInstaller's programs, which start their workers by running themselves
        import multiprocessing

        multiprocessing.freeze_support()
    from .cli import main as run  # here, since the workers of a batch import this module and need none of that

    run()


if __name__ == "__main__":
    main()
