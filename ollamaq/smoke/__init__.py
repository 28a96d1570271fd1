"""The checks that stand between a model and its name."""

from ollamaq.smoke.result import CheckResult
from ollamaq.smoke.suite import apart, run_smoke

__all__ = ["CheckResult", "apart", "run_smoke"]
