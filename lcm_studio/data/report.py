"""The doctor's report as text for a shell and as Markdown for a page."""

from __future__ import annotations

import html

from lcm_studio.data.doctor import Finding, Report

_MARK = {"error": "ERROR", "warning": "warning", "note": "note"}


def summary(report: Report) -> str:
    """One sentence: how many, how large, how many captions."""
    sizes = ", ".join(f"{size} ({count})" for size, count in report.sizes[:3]) or "none"
    changes = {"cropped to a square": report.cropped, "enlarged": report.enlarged}
    done = " and ".join(f"{count} are {what}" for what, count in changes.items() if count)
    return (
        f"{report.usable} of {report.pictures} pictures can be used, {report.captioned} have a caption; "
        f"sizes: {sizes}" + (f"; at {report.size} pixels {done}." if done else ".")
    )


def verdict(report: Report) -> str:
    """One sentence: go, or mend."""
    if not report.usable:
        return "There is nothing to train on."
    if not report.healthy:
        return "Mend the errors first; what is broken is skipped, and too much of it ends the job."
    return "Ready to train on."


def as_text(report: Report) -> str:
    """Lines for a shell."""
    lines = [report.where, summary(report)]
    for finding in report.findings:
        lines.append(f"{_MARK[finding.level]}: {finding.message}{_count(finding)}")
        lines += [f"    {name}" for name in finding.examples]
        if finding.count > len(finding.examples) > 0:
            lines.append(f"    ... and {finding.count - len(finding.examples)} more")
        lines.append(f"    -> {finding.remedy}")
    return "\n".join([*lines, verdict(report)])


def as_html(report: Report) -> str:
    """A list for the page; every text that came from files is escaped."""
    rows = []
    for finding in report.findings:
        names = "".join(f"<code>{html.escape(name[:120])}</code>" for name in finding.examples)
        rows.append(
            f'<li class="doctor-{finding.level}"><b>{_MARK[finding.level]}</b> '
            f"{html.escape(finding.message)}{_count(finding)}"
            f'<div class="doctor-names">{names}</div>'
            f'<div class="doctor-remedy">{html.escape(finding.remedy)}</div></li>'
        )
    state = "ok" if report.healthy and report.usable else "bad"
    return (
        f'<div class="doctor"><p class="doctor-verdict doctor-{state}">{verdict(report)}</p>'
        f"<p>{html.escape(summary(report))}</p><ul>{''.join(rows)}</ul></div>"
    )


def _count(finding: Finding) -> str:
    return f" ({finding.count})" if finding.count else ""
