"""Notebooks as experiments: checked parameters, runs, recordings, the course as pages.

parameters     what a notebook can be asked, checked before a kernel starts
execution      run a notebook; find the lessons
recording      keep a lesson's outputs with the machine and a stamp of its cells
pages          the whole course as web pages, with the ledger as index
report         which claims are decided, from executed notebooks
doctor         what will work on this computer, and what will not
command_line   `kit run`, `kit course`, `kit record`, `kit report`, `kit doctor`
"""

from kit.runs.execution import find_notebook, lessons, run
from kit.runs.parameters import Parameter, check_parameters, declared
from kit.runs.report import collect

__all__ = [
    "Parameter",
    "check_parameters",
    "collect",
    "declared",
    "find_notebook",
    "lessons",
    "run",
]
