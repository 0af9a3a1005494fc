"""A class: hand out lessons, check what comes back, run other people's code safely, grade.

handout           a lesson as students get it: no outputs, marked exercises, a deadline
releasing         write hand-outs as a folder or a zip, with links for nbgitpuller and Binder
printing          lessons as pages to print or to project
nbgrader_source   write hand-outs as nbgrader wants them
cells             the code cells of a notebook, read as data
answers           find the answers by the exercise's id, and the code that they need
isolation         namespaces of Linux: no files, no network, no other processes
system_calls      which calls of the kernel a student's code cannot make
limits            seconds, memory, processes, files
values            numbers and tensors as JSON; functions as stand-ins
messages          two processes that ask each other
student_process   the process in which a student's code runs
judging           one notebook becomes one row
warm_process      forks itself for each notebook
hand_ins          the files of a folder: who handed in what, and when
batch             grade many files with several warm processes, and only those that are new
copies            hints at answers and measurements that two students share
gradebook         the rows: which hand-in counts, what to look at
grade_pages       the gradebook and the feedback as tables and pages
grading           `kit grade`: all of that, one after the other
validating        `kit validate`: what the grader will find
board/            `kit class`: what all guess and measure, live on one page
"""
