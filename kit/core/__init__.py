"""What every other room builds on. Nothing here knows what a model is.

errors          what can go wrong, as one tree
checks          argument checks: the value, or what is needed instead
units           numbers in words: 0.00124 s becomes "1.24 ms"
statistics      an estimate with its interval
tables          rows under a header, and sentences, as text and as HTML
results         the base of every result: a line, a table, a record
files           caches, and files that are written whole or not at all
tensor_files    tensors and text in one file, checked before they are read
silence         other libraries' output, suppressed
"""
