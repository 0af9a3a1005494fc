"""What every other package builds on. Nothing here knows what a model is.

errors          what can go wrong, as one tree
checks          argument checks: the value, or what is needed instead
units           numbers as text: 0.00124 s becomes "1.24 ms"
statistics      an estimate with its interval
correlated_samples  how much samples say that follow each other
tables          rows under a header, and sentences, as text and as HTML
results         the base of every result: a line, a table, a record
files           the cache, atomic writes, the command of this Python
lazy            names that a package imports when they are first used
tensor_files    tensors and text in one file, checked before they are read
silence         suppress the output of other libraries
"""
