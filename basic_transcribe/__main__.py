"""``python -m basic_transcribe``."""


def main() -> None:
    """Run the command line, and exit."""
    from .cli import main as run  # here, since the workers of a batch import this module and need none of that

    run()


if __name__ == "__main__":
    main()
