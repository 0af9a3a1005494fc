"""What training and inference cost: counted on paper, timed on this machine.

counting            parameters, bytes and FLOPs of a prediction and of a training step
operation_flops     the FLOPs of single operations
activation_memory   the memory that operations make and that autograd keeps
generation_counts   what generating a text costs: prefill, then one token after another
step_cost           one training step beside one prediction on the same batch, phase by phase
step_cost_grid      the same for several models and batch sizes
run_cost            a whole training beside one prediction of the trained model
peak_share          the share of this machine's best rate that a piece of work reaches
"""
