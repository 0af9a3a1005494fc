"""Are two things the same (agree), and is one better, as far as we can tell (compare)?

agree      the largest difference of two results, and whether that is little
compare    calls in turns: the ratio with its interval, this machine's noise, a verdict
"""

from kit.comparison.agreement import Agreement, agree
from kit.comparison.pairs import Comparison, compare

__all__ = ["Agreement", "Comparison", "agree", "compare"]
