"""JUnit's XML: a suite for each model, a test case for each check; what could not be checked is skipped."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree

from ollamaq.modelfile.printable import printed
from ollamaq.report.outcome import Outcome


def render(tested: Sequence[Outcome]) -> str:
    """The document."""
    root = ElementTree.Element("testsuites", name="ollamaq")
    for one in tested:
        skipped = sum(not check.ok and not check.blocks for check in one.checks)
        counts = {"tests": len(one.checks), "failures": len(one.failed), "errors": 0, "skipped": skipped}
        seconds = sum(check.seconds for check in one.checks)
        suite = ElementTree.SubElement(root, "testsuite", name=printed(one.name), time=f"{seconds:.3f}")
        for key, count in counts.items():
            suite.set(key, str(count))
        for check in one.checks:
            case = ElementTree.SubElement(
                suite,
                "testcase",
                name=printed(check.name),
                classname=f"ollamaq.smoke.{printed(one.name)}",
                time=f"{check.seconds:.3f}",
            )
            if check.blocks:
                ElementTree.SubElement(case, "failure", message=printed(check.detail), type="check")
            elif not check.ok:
                ElementTree.SubElement(case, "skipped", message=printed(check.detail))
            else:
                ElementTree.SubElement(case, "system-out").text = printed(check.detail)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"
