"""What the kit's first use adds to `import torch`, in fresh interpreters.

python benchmarks/import_time.py
"""

import subprocess
import sys

import numpy as np
from keeping import keep

from kit.core.statistics import bootstrap

CODE = """
import time
started = time.perf_counter()
import torch
between = time.perf_counter()
import kit
for name in ("device", "workloads", "count", "predict", "train", "save", "measure", "compare"):
    getattr(kit, name)
print((time.perf_counter() - started) / (between - started))
"""


def main():
    ratios = []
    for _ in range(20):
        done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True)
        ratios.append(float(done.stdout))
    keep("import_time", import_ratio=bootstrap(np.array(ratios), unit="×"))


if __name__ == "__main__":
    sys.exit(main())
