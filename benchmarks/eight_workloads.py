"""The table of workloads in the documentation, from the stored runs of the experiment.

kit sweep train-versus-infer notebooks/experiments/all-workloads.yaml --out runs/eight
kit record runs/eight
python benchmarks/eight_workloads.py
"""

from kit.core.units import span, words
from kit.experiments import collect
from kit.experiments.recording import RECORDED_RUNS
from kit.workloads import WORKLOADS

HEADER = (
    "workload", "score on test (target)", "training", "one prediction", "a step ÷ a prediction",
    "its FLOPs", "the training ÷ one prediction (FLOPs)",
)  # fmt: skip


def table() -> str:
    """The stored runs with default parameters as Markdown, one row per workload."""
    costs = collect(RECORDED_RUNS / "eight", "RunCost")
    plain = costs[(costs["technique"] == "none") & (costs["parameter.model"] == "default")]
    runs = {run["workload"]: run for _, run in plain.iterrows()}
    rows = [_row(name, runs[name]) for name in WORKLOADS]
    lines = [HEADER, ["---"] * len(HEADER), *rows]
    machine = f"{plain['machine.cpu'].iloc[0]}, {plain['conditions'].iloc[0]}"
    measured = f"Measured on {machine}, {plain['date'].max()[:10]}."
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + f"\n\n{measured}"


def _row(name: str, run: dict) -> tuple[str, ...]:
    ratio = [run[f"ratio.step_time.{end}"] for end in ("value", "low", "high")]
    return (
        name,
        f"{words(run['score_share.value'], '%')} {run['score_measure']} "
        f"({words(run['target_share'], '%')})",
        words(run["training.seconds_s"], "s"),
        words(run["inference.one_example_s.value"], "s"),
        f"{words(ratio[0], '×')} [{span(*ratio[1:], '×')}]",
        words(run["ratio.step_flops"], "×"),
        words(run["ratio.whole_run_flops"], "×"),
    )


if __name__ == "__main__":
    print(table())
