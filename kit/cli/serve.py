"""`kit serve PATH`: a checkpoint or an exported model behind HTTP, until Ctrl-C or SIGTERM."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from kit.cli.main import PATH, say, show, stoppable

if TYPE_CHECKING:
    from kit.workloads import Workload

TOKEN = "KIT_SERVE_TOKEN"


@click.command()
@click.argument("path", type=PATH)
@click.option("--name", default="model", show_default=True, help="Its name in addresses.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Other hosts need a token.")
@click.option("--port", default=8000, show_default=True, help="0 takes any free port.")
@click.option("--workers", default=1, show_default=True, help="Processes, each with the model.")
@click.option("--threads", default=1, show_default=True, help="PyTorch's threads in each.")
@click.option("--max-batch", default=32, show_default=True, help="Rows computed together.")
@click.option("--max-wait-ms", default=2.0, show_default=True, help="How long a row waits for it.")
@click.option("--wait-if-idle", is_flag=True, help="Wait also if the model has nothing to do.")
@click.option("--deadline-s", default=1.0, show_default=True, help="Later replies are dropped.")
@click.option("--slots", default=16, show_default=True, help="Texts that are written together.")
@click.option("--workload", help="Inputs, vocabulary, or your own class.")
@click.option("--watch", type=PATH, help="A reference, to compare the latest answers with.")
@click.option("--trusted", is_flag=True, help="Open a .pt2 or .pte file, which can run code.")
def serve(path: Path, max_wait_ms: float, workload: str | None, **options: object) -> None:
    """Serve the model in PATH by HTTP: a checkpoint (.kit), or an exported model (.onnx).

    Tensors: the Open Inference Protocol, under /v2. Text, if it is a GPT: OpenAI's completions,
    under /v1. Metrics: /metrics. For another --host, set a token in KIT_SERVE_TOKEN: options can
    be seen by all users of the computer.
    """
    import os
    import time

    from kit.serving import serve as start

    model, example, text = _of_workload(path, workload)
    given = {"example": example, "text": text, "max_wait_s": max_wait_ms / 1000, **options}
    with stoppable():
        server = start(model, token=os.environ.get(TOKEN), **given)  # type: ignore[arg-type]
        try:
            show(f"{path.name} is served at {server.url} (Ctrl-C stops it)")
            while server.process.poll() is None:
                time.sleep(0.1)
        except KeyboardInterrupt:
            say("Stopping: requests that are inside are finished.")
            raise SystemExit(server.stop()) from None
        log = server.log()
        server.stop()
        raise click.ClickException(f"the server ended by itself: {log or 'its log is empty'}")


def _of_workload(path: Path, name: str | None) -> tuple[object, object, object]:
    """The model, an example of its inputs, and the workload's data if they are texts."""
    if name is None:
        return path, None, None
    from kit import workloads
    from kit.data import Text

    work = workloads.get(name)
    text = work.data if isinstance(work.data, Text) else None
    return _model(path, work), work.example(1)[0], text


def _model(path: Path, work: Workload) -> object:
    """The path; for weights of a class of the user's own, the workload's model with them."""
    from kit.checkpoints import contents
    from kit.core.errors import CheckpointRefused

    if path.suffix != ".kit" or (found := contents(path)).about["family"]:
        return path
    refused = {}
    for each in work.models:
        try:
            found.fill(model := work.model(each))
            return model
        except CheckpointRefused as error:
            refused[each] = error
    raise next(iter(refused.values()))
