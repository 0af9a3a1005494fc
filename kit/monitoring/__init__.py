"""Drift: does a deployed model still see what it was trained for, and what to do if not.

What people call drift are three questions, and this room answers each with numbers. Has anything
changed? `drift` compares a reference with what comes now, without labels. Is it harmful? Only
labels can tell, so the score stands beside the detectors. What now? `repairs` tries ways back, and
`live` lets a model live through a drifting year under a policy.

two_samples      tests on numbers: KS per column, MMD by permutation, old against new, the mean
views            what is compared: outputs, embeddings, confidence; checks of the inputs
detectors        a view and a test under one name; correction for many tests
detecting        `drift`: all detectors, false alarms on no drift, examples needed, the score
drift_result     what `drift` returns
reference        a file of outputs from when all was well, for a server that watches
changes          kinds of drift by degree, seeded: rotation, noise, another class mix …
late_labels      errors in a stream: ADWIN, from River; real series that people marked
adjusting        repairs without a training step: recalibrate, reweight, normalisation layers
repairing        `repairs`: retrain, fine-tune, last layer …: what each costs and regains
repair_result    what `repairs` and `text_repairs` return
typing_errors    a drift of texts, and a repair of their spelling
text_drift       texts before and after the errors, as a pre-trained model reads them
text_repairing   `text_repairs`: the same ways back for a pre-trained model of texts
living           `live`: a model, a drifting stream, and a policy that says when to train
living_result    what `live` and `lives` return
"""

from typing import TYPE_CHECKING

from kit.core.lazy import lazy_names

# Names are imported when they are first used: a server that watches needs no training code.
if TYPE_CHECKING:
    from kit.monitoring.adjusting import adapt_normalisation as adapt_normalisation
    from kit.monitoring.adjusting import recalibrated as recalibrated
    from kit.monitoring.adjusting import reweighted as reweighted
    from kit.monitoring.changes import CHANGES as CHANGES
    from kit.monitoring.changes import changed as changed
    from kit.monitoring.detecting import drift as drift
    from kit.monitoring.detectors import DETECTORS as DETECTORS
    from kit.monitoring.drift_result import Drift as Drift
    from kit.monitoring.late_labels import adwin_alarms as adwin_alarms
    from kit.monitoring.late_labels import marked_series as marked_series
    from kit.monitoring.living import POLICIES as POLICIES
    from kit.monitoring.living import every as every
    from kit.monitoring.living import live as live
    from kit.monitoring.living import lives as lives
    from kit.monitoring.living import on_adwin as on_adwin
    from kit.monitoring.living import on_alarm as on_alarm
    from kit.monitoring.living import on_errors as on_errors
    from kit.monitoring.living_result import Life as Life
    from kit.monitoring.living_result import Lives as Lives
    from kit.monitoring.reference import read_reference as read_reference
    from kit.monitoring.reference import save_reference as save_reference
    from kit.monitoring.repair_result import Repairs as Repairs
    from kit.monitoring.repair_result import share_of as share_of
    from kit.monitoring.repairing import REPAIRS as REPAIRS
    from kit.monitoring.repairing import repairs as repairs
    from kit.monitoring.text_repairing import TEXT_REPAIRS as TEXT_REPAIRS
    from kit.monitoring.text_repairing import text_repairs as text_repairs
    from kit.monitoring.typing_errors import Spelling as Spelling
    from kit.monitoring.typing_errors import with_typing_errors as with_typing_errors

__all__, __getattr__, __dir__ = lazy_names(__name__, __file__, globals())
