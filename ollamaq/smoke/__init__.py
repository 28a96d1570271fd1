"""The checks that stand between a model and its name."""

from ollamaq.smoke.suite import CheckResult, run_smoke

__all__ = ["CheckResult", "run_smoke"]
