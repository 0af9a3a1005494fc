"""How `kit lab` reads notebooks: a panel whose kernel has ended is shown as its picture.

A notebook says which Python it ran in. JupyterLab writes that of its kernel instead, and would show
each lesson as changed as soon as it is opened; so it gets that of this Python from the start.

The page START.md is made when it is opened, so that it shows what is solved by then.

JupyterLab takes from the stored outputs of a notebook that it does not trust what could be a
program: styles, and what lets a keyboard scroll a table. A notebook that came with the kit is as
safe as the kit itself, so it is trusted as long as it is unchanged.

A notebook keeps of a panel its view, which needs a kernel, and HTML. JupyterLab prefers the view,
and without the kernel it only shows "Error displaying widget: model not found".
"""

from __future__ import annotations

import filecmp
import subprocess
from functools import lru_cache
from pathlib import Path
from typing import Any

from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager

from kit.cli.jupyterlab import start_page
from kit.core.files import NOTEBOOKS

VIEW = "application/vnd.jupyter.widget-view+json"
BACK = "<p><i>The kernel of this panel has ended. Run its cell to get the panel back.</i></p>"


class LessonContents(AsyncLargeFileManager):
    """The files of a folder, as JupyterLab reads and writes them."""

    async def get(self, path: str, content: bool = True, *more: Any, **options: Any) -> Any:
        """The file; in a notebook that no kernel belongs to, panels are replaced."""
        if content and path.rpartition("/")[2] == start_page.NAME:
            folder = Path(self._get_os_path(path)).parent
            if any(folder.glob("00-*.ipynb")):
                start_page.write_start_page(folder)
        model = await super().get(path, content, *more, **options)
        if content and model["type"] == "notebook":
            name_language(model["content"])
            if not await self._has_kernel(path):
                replace_dead_panels(model["content"])
        return model

    def mark_trusted_cells(self, nb: Any, path: str = "") -> None:
        """Trust the lessons as they came; of others, Jupyter knows those that this user has run."""
        if came_with_the_kit(Path(self._get_os_path(path))):
            self.notary.mark_cells(nb, True)
        else:
            super().mark_trusted_cells(nb, path)

    async def _has_kernel(self, path: str) -> bool:
        """Whether a kernel runs for the notebook: then its panels are alive, so they stay."""
        sessions = getattr(self.parent, "session_manager", None)
        running = await sessions.list_sessions() if sessions else []
        return path.strip("/") in [each["path"].strip("/") for each in running]


def came_with_the_kit(file: Path) -> bool:
    """Whether a notebook is one of the kit's own, byte by byte; in a checkout, git knows."""
    if NOTEBOOKS not in file.resolve().parents:
        own = NOTEBOOKS.rglob(file.name)
        return any(filecmp.cmp(file, each, shallow=False) for each in own)
    try:
        now = file.stat()
        return _unchanged(file, now.st_mtime_ns, now.st_size)
    except (OSError, subprocess.SubprocessError):
        return False


@lru_cache
def _unchanged(file: Path, mtime_ns: int, size: int) -> bool:
    """Whether git has the file as it is; asked once, until its time or its size is another.

    Raises
    ------
    OSError, subprocess.SubprocessError
        Git could not be asked. Nothing is remembered, so the next call asks it again.
    """
    command = ["git", "-C", str(NOTEBOOKS), "status", "--porcelain", "--ignored", "--", str(file)]
    # It prints a line for a file that it does not know, or that has changed.
    return not subprocess.run(command, capture_output=True, timeout=5, check=True).stdout


def name_language(notebook: Any) -> None:
    """Let a Python notebook say what a kernel of this Python says of its language."""
    from ipykernel.ipkernel import IPythonKernel

    metadata = notebook["metadata"]
    if metadata.get("kernelspec", {}).get("language") == "python":
        metadata["language_info"] = {**IPythonKernel.language_info}


def replace_dead_panels(notebook: Any) -> None:
    """Where HTML stands beside the view of a panel, remove the view, and say what to do."""
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if VIEW in data and isinstance(data.get("text/html"), str):
                del data[VIEW]
                data["text/html"] += BACK
