"""What training and inference cost: counted on paper, timed on this machine.

counting            parameters, bytes and FLOPs of a prediction and of a training step
operation_flops     FLOPs of single operations
activation_memory   memory that operations create, and what autograd saves for backward
generation_counts   FLOPs and bytes of generating a text: prefill, then decode
step_cost           a training step beside a prediction on the same batch, phase by phase
step_cost_grid      the same for several models and batch sizes
run_cost            a whole training run beside one prediction of the trained model
prediction_turns    a whole training in predictions that take turns with its steps
lifetime            both bills over a model's life, and their break-even
lifetime_result     these bills as a result: tables, pictures, other assumptions
lifetime_assumptions  what these bills depend on: named, with unit, class and source
lifetime_bills      their arithmetic: sums until a day, the day on which they are equal
lifetime_options    several models for the same job: which is cheapest at which demand
lifetime_tornado    which assumption moves a result most
planning            machines for a training by a deadline, and for users at a pace
planning_serving    the roofline of a language model that serves many texts at once
planning_result     what such a plan says
two_plans           one kind of machine for both phases of a model, or a kind for each
planning_check      the planner against published trainings and services
accelerator_speedup  published trainings beside this computer at its peak
published           figures of others: models, accelerators, services, with class and source
"""
