"""What this machine could do at best: the limit that every number is held against.

peaks         the best matmul FLOP/s per dtype and the memory's bytes/s, kept per machine
Peaks         the roofline they make: limits, shares, a picture with points on it
layer_point   a square layer as such a point
"""

from kit.limits.probing import layer_point, peaks
from kit.limits.roofline import Peaks

__all__ = ["Peaks", "layer_point", "peaks"]
