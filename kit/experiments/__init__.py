"""Notebooks as experiments: checked parameters, runs, sweeps, recordings, reports.

parameters        what a notebook can be given, checked before a kernel starts
parameter_combinations  which values go together, and which this computer can run
machine_lock      one timed run at a time on a machine
execution         find a notebook and run it
outputs           save an executed notebook, without widgets and without names of folders
grids             the file that says which values a sweep takes
plans             the runs of a sweep, and which of them are done
sweeping          run a plan on this machine
cluster           run a plan on a Dask cluster
recording         store outputs, measurements and runs, so that others see them without running
untrusted_notebooks  read notebooks of other people within limits
records           executed notebooks as rows of a table
deciding_runs     which runs decide a claim: of its own lessons, the longest
report            `kit report`: which claims are decided, and all runs as tables
report_page       the web page of a folder of runs
report_card       the web page of all claims, to print
class_comparison  bills of many machines side by side, without names
class_records     all that a class measured: notebooks, and the records of its board
class_differences  what goes together with the differences between computers
course_pages      `kit course`: the lessons as web pages
page_templates    the templates of all pages; they escape all text
training_job      `kit train`: one training by a command, alone or in many processes
torchrun          start such a training in many processes, from a notebook
"""

from kit.experiments.class_comparison import class_results as class_results
from kit.experiments.class_comparison import spread as spread
from kit.experiments.class_records import class_measurements as class_measurements
from kit.experiments.execution import find_notebook as find_notebook
from kit.experiments.execution import lessons as lessons
from kit.experiments.execution import run as run
from kit.experiments.parameters import Parameter as Parameter
from kit.experiments.parameters import check_parameters as check_parameters
from kit.experiments.parameters import declared as declared
from kit.experiments.recording import experiment_folder as experiment_folder
from kit.experiments.records import collect as collect
from kit.experiments.report import write_report as write_report
