"""The ``train`` command. It has no sub-commands until the training core exists."""

import typer

app = typer.Typer(name="train", no_args_is_help=True, add_completion=False)


@app.callback()
def root() -> None:
    """Train a small model with a suite of benchmarks in its loop.

    The training core is not there yet, so this command can do nothing but say so. What works today:
    `scaling --help` (which benchmarks speak at which scale) and `evalsuite --help` (suites built from that).
    """


def main() -> None:
    """Entry point: exits 0 on ``--help``, 2 on anything else."""
    app(prog_name="train")


if __name__ == "__main__":
    main()
