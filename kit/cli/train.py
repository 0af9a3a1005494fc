"""`kit train WORKLOAD`: a training, alone or as one of the processes that `torchrun` starts."""

from __future__ import annotations

from typing import Any

import click

from kit.cli.main import PATH, show
from kit.experiments.training_job import OPTIONS

METAVARS = {int: "N", float: "X", str: "NAME"}


def _options(command: Any) -> Any:
    """The command with the options of a training: `kit.torchrun` takes the same ones."""
    for option in reversed(OPTIONS.values()):
        word, meaning = f"--{option.name.replace('_', '-')}", option.meaning
        form: dict[str, Any] = {"is_flag": True}
        if option.type is not bool:
            form = {"type": option.type, "metavar": METAVARS[option.type]}
        command = click.option(word, default=option.default, help=meaning, **form)(command)
    return command


@click.command()
@click.argument("workload")
@_options
@click.option(
    "--checkpoint",
    type=PATH,
    help="Save the training in this file. If the file exists, continue from it.",
)
@click.option("--history", type=PATH, help="Write the loss of each step to this JSON file.")
def train(workload: str, **options: Any) -> None:
    """Train a model on WORKLOAD. By default, values are those of the workload's recipe.

    Several processes train together under torchrun:

    torchrun --standalone --local-addr 127.0.0.1 --nproc-per-node 2 -m kit train vision

    torchrun opens ports on all network interfaces: use it in a trusted network only.
    """
    from kit.experiments.training_job import failure_noted, run_job

    with failure_noted():
        result = run_job(workload, **options)
    if result:
        show(result)
