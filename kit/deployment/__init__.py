"""A trained model at the edge: an exported model in a process of its own, without PyTorch.

small_process   `kit.edge`: start the process, limit it, read what it reports
edge_process    the process itself (`python -m`): import, load, answer, in one thread
timed_calls     calls at a steady pace, each with the counters that explain a slow one
sessions        runtimes that open a model's file: arrays in, arrays out
edge_failure    why a process failed, as an error that says what to do
core_share      holds a process to a share of a core
edge_result     what a run found, one run or several in a table
slowest_call    why the slowest call was slow, where the counters tell
real_time       real-time factors of several kinds of work
voice_detector  silero-vad: a model that is shipped in products, from its own package
published_devices  what others measured on small devices, with class, date and source

The process contains none of the training code: nothing here imports it. `sessions`, `timed_calls`
and `edge_process` need NumPy and the runtime only.
"""

from typing import TYPE_CHECKING

from kit.core.lazy import lazy_names

# Names are imported when they are first used: the small process must not import PyTorch.
if TYPE_CHECKING:
    from kit.deployment.edge_result import EdgeRun as EdgeRun
    from kit.deployment.edge_result import edge_table as edge_table
    from kit.deployment.published_devices import published_table as published_table
    from kit.deployment.real_time import RealTime as RealTime
    from kit.deployment.real_time import real_time_factors as real_time_factors
    from kit.deployment.sessions import present_runtimes as present_runtimes
    from kit.deployment.small_process import can_limit as can_limit
    from kit.deployment.small_process import edge as edge
    from kit.deployment.voice_detector import VoiceDetector as VoiceDetector
    from kit.deployment.voice_detector import babble as babble
    from kit.deployment.voice_detector import load_voice_detector as load_voice_detector

__all__, __getattr__, __dir__ = lazy_names(__name__, __file__, globals())
