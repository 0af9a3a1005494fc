"""The figures of all benchmarks: as they were first kept, and as they are now.

    python benchmarks/before_and_after.py    # reads the history of the repository

For each figure: the oldest commit whose result has it, and the result of today. Two figures are
compared only if they were measured on the same model of processor with the same number of cores;
on another one, a difference says nothing about the kit. *Better* and *worse* need intervals that
do not meet.
"""

import json
import subprocess
from contextlib import suppress

from keeping import FOLDER, RESULTS

from kit.core.statistics import Estimate, median
from kit.core.units import words

LESS, MORE = "less", "more"  # which of the two is better


def nano_by_rounds(record):
    """The median ratio of the rounds, as in the table; of few rounds, the kept ratio."""
    runs, kept = record.get("runs", {}), figure(record, ("nano_to_kit",))
    if not {"nano", "kit"} <= runs.keys():
        return kept
    pairs = zip(runs["nano"], runs["kit"], strict=True)
    found = median([nano["train_s"] / kit["train_s"] for nano, kit in pairs], "×")
    return found if found.known else kept


FIGURES = {  # result -> figure in words; keys that lead to it, or a function; which is better
    "binder_memory": [("lesson 05, most memory", ("lessons", "05", "peak_bytes"), LESS)],
    "class_board": [("p99 of the delay", ("delay_p99",), LESS)],
    "collect_speed": [("collecting 1,000 notebooks", ("collect_runs_s",), LESS)],
    "continuous_batching": [
        ("16 texts ÷ one, 6 × 256", ("sizes", "6 × 256", "lengths", "equal", "speedup"), MORE)
    ],
    "drift_quality": [("false alarms, all", ("false_alarm_share", "all together"), LESS)],
    "edge": [
        ("added to a call of the runtime", ("kit_predict_added_s",), LESS),
        ("first answer, ONNX Runtime", ("onnxruntime_first_answer_s",), LESS),
    ],
    "generation": [
        (f"kit ÷ transformers, {size}", ("sizes", size, "ways", way, key), MORE)
        for key in ("one_to_transformers_float32",)
        for size, way in (("6 × 256", "kit, float32"), ("12 × 768", "kit, 4-bit weights"))
    ],
    "gpt_step_share": [
        (f"share of the best matmul, width {width}", ("steps", at, "share_full"), MORE)
        for at, width in enumerate((96, 192, 256, 384, 512))
    ],
    "grading": [("300 hand-ins", ("first_run_s",), LESS)],
    "import_time": [
        ("import kit ÷ import torch", ("import_ratio",), LESS),
        ("first use ÷ import torch", ("first_use_ratio",), LESS),
    ],
    "inference_ladder": [
        ("fastest form, one example", ("mean_speedup_batch_1",), MORE),
        ("fastest form, 64 examples", ("mean_speedup_batch_64",), MORE),
    ],
    "kv_cache": [("with a cache ÷ without", ("speedup",), MORE)],
    "loop_overhead": [
        ("a tutorial's loop ÷ kit.train", ("tutorial_to_kit",), MORE),
        ("with a live curve ÷ without", ("live_curve",), LESS),
    ],
    "measurement_quality_crowded": [
        ("finds 2 %, crowded", ("found_2_percent_share",), MORE),
        ("false alarms, crowded", ("false_alarm_share",), LESS),
    ],
    "measurement_quality_goal": [
        ("finds 2 % in 2 s", ("found_2_percent_in_2_s_share",), MORE),
        ("false alarms in 2 s", ("false_alarm_share",), LESS),
    ],
    "measurement_quality_loaded": [
        ("finds 2 %, loaded", ("found_2_percent_share",), MORE),
        ("false alarms, loaded", ("false_alarm_share",), LESS),
    ],
    "predict_overhead": [
        (f"kit.predict adds, {model}", (model, "added_to_no_grad_s"), LESS)
        for model in ("linear", "mlp", "cnn", "gpt")
    ],
    "run_overhead": [("kit run ÷ nbclient", ("per_run",), LESS)],
    "serving": [
        ("requests/s at 64 connections", ("servers", "kit", "peak"), MORE),
        ("p99 at half load", ("servers", "kit", "half_p99_s"), LESS),
        ("kit ÷ LitServe", ("ratios", "kit_to_LitServe"), MORE),
    ],
    "serving_flood": [
        ("goodput after ÷ before", ("means", "goodput_two_s_after_to_before"), MORE),
        ("memory after ÷ before", ("means", "memory_after_to_before"), LESS),
    ],
    "serving_kit": [
        ("requests/s, the kit alone", ("servers", "kit", "peak"), MORE),
        ("added to a bare reply", ("ratios", "added_latency_s"), LESS),
    ],
    "serving_mosec": [("kit ÷ mosec", ("ratios", "kit_to_mosec"), MORE)],
    "serving_steady": [
        ("capacity (requests/s)", ("capacity_before",), MORE),
        ("memory, last ÷ first", ("memory_last_to_first",), LESS),
    ],
    "time_to_loss": [("nanoGPT's recipe ÷ kit", nano_by_rounds, MORE)],
    "traffic_quality": [("capacity, kit ÷ wrk", ("capacity_64_users_kit_to_wrk",), MORE)],
}
WITHOUT = ("interval_quality", "lifetime_quality", "torture")  # tables of shares: no single figure


def git(*words):
    """What git says."""
    ask = ["git", "-C", str(FOLDER), *words]
    return subprocess.run(ask, capture_output=True, encoding="utf-8", check=True).stdout


def history(name):
    """The results of a benchmark in the history, the oldest first."""
    path = f"benchmarks/results/{name}.json"
    # Seven digits, always: git writes more of them in a repository with more objects.
    for commit in git("log", "--reverse", "--format=%H", "--", f":/{path}").split():
        with suppress(subprocess.CalledProcessError, ValueError):  # it was removed in this commit
            yield commit[:7], json.loads(git("show", f"{commit}:{path}"))


def figure(record, keys):
    """What the keys lead to, or a function says: an `Estimate`, a number, or None."""
    if callable(keys):
        return keys(record)
    for key in keys:
        try:
            record = record[key]
        except (KeyError, IndexError, TypeError):
            return None
    if not isinstance(record, dict):
        return record
    return Estimate(**record) if record.get("value") is not None else None


def another_machine(then, now):
    """Why two results cannot be compared: "" if processor, cores and instructions are the same."""
    then, now = then["machine"], now["machine"]
    if any(then.get(key) != now.get(key) for key in ("cpu", "cores_allowed", "cores_present")):
        return f"another machine ({then['cpu']})"
    had, has = then.get("instructions"), now.get("instructions")
    if had is not None and has is not None and had != has:  # the first results do not say
        return f"another machine ({then['cpu']}, with {', '.join(had)})"
    return ""


def shown(value, keys):
    """In words, with its unit."""
    if isinstance(value, Estimate):
        return f"{value!r}"
    last = "" if callable(keys) else keys[-1].rpartition("_")[2]
    return words(value, {"s": "s", "bytes": "B"}.get(last, ""))


def verdict(before, now, better):
    """Whether today's figure is better, worse, or not to be distinguished."""
    ends = [
        (each.low, each.high) if isinstance(each, Estimate) else (each, each)
        for each in (before, now)
    ]
    if not all(isinstance(end, (int, float)) for pair in ends for end in pair):
        return "cannot tell"
    (low, high), (now_low, now_high) = ends
    if low == high or now_low == now_high:  # measured once: nobody knows by how much it varies
        return "no interval"
    if now_low > high or now_high < low:
        return "better" if (now_low > high) == (better == MORE) else "**worse**"
    return "cannot tell"


def rows():
    """A line for each figure that a result of today has."""
    for name, figures in FIGURES.items():
        path = RESULTS / f"{name}.json"
        if not path.exists():
            continue
        now, past = json.loads(path.read_text(encoding="utf-8")), list(history(name))
        for said, keys, better in figures:
            today = figure(now, keys)
            first = next((each for each in past if figure(each[1], keys) is not None), None)
            if today is None or first is None:
                continue
            commit, record = first
            value = figure(record, keys)
            if record["date"] == now["date"] and value == today:
                change = "measured once"
            else:
                change = another_machine(record, now) or verdict(value, today, better)
            cells = (f"{record['date']}, {commit}", shown(value, keys), shown(today, keys))
            yield f"| {name} | {said} | {' | '.join(cells)} | {better} | {change} |"


def main():
    print("| result | figure | first kept | then | now | better is | change |")
    print("| --- " * 7 + "|", *rows(), sep="\n")


if __name__ == "__main__":
    main()
