"""Notebooks as experiments: checked parameters, runs, recordings, the course as pages.

parameters     what a notebook can be asked, checked before a kernel starts
combinations   which values go together, and on this computer
turns          one run at a time on a machine
execution      run a notebook; find the lessons
outputs        where results go: checked before a run, kept after it, without names of folders
headline       what an executed notebook found, in one sentence
grids          the file that says which values a sweep takes
plans          the runs that it asks for; what of them is done
sweeping       carry out a plan on this machine
cluster        carry out a plan on a Dask cluster
recording      keep a lesson's outputs with the machine and a stamp of its cells
strangers      notebooks of others, read within bounds and checked
markup         the templates of all pages, in which text is escaped
pages          the whole course as web pages, with the ledger as index
records        executed notebooks, read as rows
report         which claims are decided, and all runs: from executed notebooks
folders        those one names, those that came with the kit
classroom      records of many machines, without names
overview       the page of a folder of runs
training_job   a training by names and numbers: the options of `kit train` and `kit.torchrun`
torchrun       several processes that train together, started from a notebook
"""

from kit.experiments.class_comparison import class_results, spread
from kit.experiments.execution import find_notebook, lessons, run
from kit.experiments.folders import experiment_folder
from kit.experiments.parameters import Parameter, check_parameters, declared
from kit.experiments.records import collect
from kit.experiments.report import write_report

__all__ = [
    "Parameter",
    "check_parameters",
    "class_results",
    "collect",
    "declared",
    "experiment_folder",
    "find_notebook",
    "lessons",
    "run",
    "spread",
    "write_report",
]
