"""The checks that stand between a model and its name."""

from ollamaq.smoke.cases import Case, read_suite
from ollamaq.smoke.result import DIFFERING, CheckResult
from ollamaq.smoke.suite import apart, run_smoke

__all__ = ["DIFFERING", "Case", "CheckResult", "apart", "read_suite", "run_smoke"]
