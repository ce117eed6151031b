"""A study: many runs that differ in stated settings, one table of them, and what of the differences is established."""

from torchvice.study.plan import Asked, Planned, Study, Where, load_study, study_names
from torchvice.study.run import Estimate, StudyResult, check_study, estimate, run_study, study_result

__all__ = [
    "Asked",
    "Estimate",
    "Planned",
    "Study",
    "StudyResult",
    "Where",
    "check_study",
    "estimate",
    "load_study",
    "run_study",
    "study_names",
    "study_result",
]
