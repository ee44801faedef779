"""`medvl predict`: over a data set as `test` does, or over reports where `--report` or `--generator` is there."""

from __future__ import annotations

REPORTS = ("--report", "--generator")
HINT = """\
of reports:  medvl predict --report FILE|FOLDER|TABLE --image FILE --run RUN   (medvl predict --report --help)
of a data set:
"""


def run(words: list[str]) -> int:
    """Hand `words`, less `predict`, to whoever predicts what they ask for."""
    if any(word.partition("=")[0] in REPORTS for word in words):
        from medvl.cli import reports

        return reports.run(words)
    if {"-h", "--help"} & set(words):
        print(HINT, flush=True)
    from medvl.cli import lightning

    return lightning.run(["predict", *words])
