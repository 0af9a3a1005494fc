"""`kit release LESSONS`: what students get."""

from __future__ import annotations

from pathlib import Path

import click

from kit.cli.main import PATH, show
from kit.core.errors import BadValue


@click.command()
@click.argument("lessons", nargs=-1, required=True)
@click.option("--out", type=PATH, required=True, help="Folder for the student versions.")
@click.option("--course", default="", help="The name of the course, for the notebook.")
@click.option("--due", default="", help="The deadline as students should read it.")
@click.option("--zip", "packed", is_flag=True, help="Also write the folder as a zip.")
@click.option(
    "--repository",
    default="",
    metavar="URL",
    help="The repository that will hold the folder: gives a link to Binder for each lesson.",
)
@click.option("--branch", default="main", show_default=True, help="The branch of the repository.")
@click.option(
    "--hub",
    default="",
    metavar="URL",
    help="A JupyterHub with nbgitpuller: gives a link for it, with --repository.",
)
@click.option(
    "--pages", is_flag=True, help="Write pages to print or to project, with outputs, instead."
)
@click.option("--nbgrader", is_flag=True, help="Write nbgrader's source format instead.")
def release(
    lessons: tuple[str, ...],
    out: Path,
    course: str,
    due: str,
    packed: bool,
    repository: str,
    branch: str,
    hub: str,
    pages: bool,
    nbgrader: bool,
) -> None:
    """Write student versions of LESSONS, such as 02 05, into a folder.

    They have no outputs, no solutions, marked exercises, the course and the deadline. Nothing in
    them depends on the metadata of cells, so students may use JupyterLab, VS Code, Colab or others.
    """
    from kit.classroom.nbgrader_source import release_nbgrader
    from kit.classroom.releasing import release as write

    if pages and (nbgrader or packed or repository or hub):
        raise BadValue("--pages: writes pages only; leave out --nbgrader, --zip and links.")
    if pages:
        from kit.classroom.printing import write_pages

        for path in write_pages(lessons, out):
            show(path)
        return
    if not nbgrader:
        places = {"repository": repository, "branch": branch, "hub": hub}
        show(write(lessons, out, course=course, due=due, packed=packed, **places))
        return
    if packed or repository or hub:
        raise BadValue("--nbgrader: nbgrader hands out by itself; leave out --zip and links.")
    for path in release_nbgrader(lessons, out):
        show(path)
