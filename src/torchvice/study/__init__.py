"""A study: many runs that differ in stated settings, a table of them, and tests of the differences."""

from torchvice.study.plan import AssessmentRequest, LaunchSettings, PlannedRun, Study, load_study, study_names
from torchvice.study.run import Estimate, StudyResult, check_study, estimate, run_study, study_result

__all__ = [
    "AssessmentRequest",
    "Estimate",
    "LaunchSettings",
    "PlannedRun",
    "Study",
    "StudyResult",
    "check_study",
    "estimate",
    "load_study",
    "run_study",
    "study_names",
    "study_result",
]
