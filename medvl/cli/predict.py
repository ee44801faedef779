"""`medvl predict`: over a data set as `test` does, over reports with `--report`, in a CT with `--volume`."""

from __future__ import annotations

REPORTS, VOLUME = ("--report", "--generator"), ("--volume", "--sentence")
HINT = """\
of reports:  medvl predict --report FILE|FOLDER|TABLE --image FILE --run RUN   (medvl predict --report --help)
in a CT:     medvl predict --volume FILE|FOLDER --sentence TEXT ... --run RUN   (medvl predict --volume --help)
of a data set:
"""


def run(words: list[str]) -> int:
    """Hand `words`, less `predict`, to whoever predicts what they ask for."""
    options = {word.partition("=")[0] for word in words}
    if options & set(REPORTS):
        from medvl.cli import reports

        return reports.run(words)
    if options & set(VOLUME):
        from medvl.cli import locate

        return locate.run(words)
    if {"-h", "--help"} & set(words):
        print(HINT, flush=True)
    from medvl.cli import lightning

    return lightning.run(["predict", *words])
