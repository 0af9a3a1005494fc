"""One change at a time, each measured against the best before it.

training          ways to train one model
training_rungs    one rung of that ladder: a way to train, and what was measured
inference         forms of one trained model
model_forms       one form: its speed, size and score
fastest           the fastest form within limits
ratios            ratios multiplied along a ladder, and several that must hold at once
"""
