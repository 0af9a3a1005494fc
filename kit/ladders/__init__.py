"""One change at a time, each measured against an earlier rung.

ladder            what both ladders share: rungs, their table and record, simultaneous intervals
├── training      ways to train one model, each compared with the best so far
└── inference     forms of one trained model, each compared with the first
training_setup    how to train on one rung, and how many steps it takes to a loss
rung_result    what was measured on one rung of the training ladder
model_form        what was measured of one form: speed, size and score
fastest           the fastest form within limits
"""
