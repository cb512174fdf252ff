"""What an assessment from Python gives: results by check that show themselves in a notebook and go into a folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assessor.assessment import folder_name, init_files
from assessor.charts import data_uri, plots_svg
from assessor.contract import Metric
from assessor.errors import MissingExtra, UsageError, nearest
from assessor.messages import _
from assessor.model import CheckRun, Status
from assessor.pages import fragment
from assessor.project import CONFIGURATION, Project, current_user
from assessor.registry import load_checks
from assessor.report_cards import WORDS, card
from assessor.verdicts import told
from assessor.yamlfile import set_entry

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

TEMPLATE = "notebook.html.j2"
ORDER = (Status.ERROR, Status.FAIL, Status.INCONCLUSIVE, Status.PASS, Status.MEASURED, Status.NOT_APPLICABLE)
"""What is looked at first."""


@dataclass(frozen=True)
class Measured:
    """What one check found.

    Attributes:
        run: All of it, as it is written to disk.
    """

    run: CheckRun

    @property
    def id(self) -> str:
        """Id of the check."""
        return self.run.check

    @property
    def status(self) -> Status:
        """Outcome: "pass", "fail", "inconclusive", "error", "not_applicable"; "measured" where no target was set."""
        return self.run.outcome.status

    @property
    def sentence(self) -> str:
        """Why."""
        return told(self.run)

    @property
    def passed(self) -> bool:
        """Whether the interval lies inside the target; never without a target."""
        return self.status is Status.PASS

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """Numbers with their intervals, by name."""
        return {metric.name: metric for metric in self.run.metrics}

    @property
    def metric(self) -> Metric | None:
        """The number that is judged, or would be; None where nothing could be measured."""
        return self.run.judged_metric

    def table(self, name: str) -> pd.DataFrame:
        """A table of findings, by group, class or layer.

        Args:
            name: Of the table.

        Returns:
            One row a group.

        Raises:
            UsageError: There is no such table.
        """
        import pandas as pd

        found = {table.name: table for table in self.run.tables}
        if name not in found:
            raise UsageError(
                f"{self.id}: no table '{name}'{nearest(name, found)}; tables: {', '.join(found) or 'none'}"
            )
        return pd.DataFrame(found[name].rows, columns=list(found[name].columns))

    def plot(self, axes: Axes | None = None) -> Axes:
        """Draw what was measured.

        Args:
            axes: Where; by default on a new figure.

        Returns:
            The axes.

        Raises:
            UsageError: The check draws nothing, or measured nothing.
            MissingExtra: matplotlib is not installed.
        """
        check = load_checks().get(self.id)
        if check is None or check.plot is None or self.run.result is None:
            raise UsageError(f"{self.id}: nothing to draw: {self.sentence}")
        if axes is None:
            try:
                from matplotlib import pyplot
            except ModuleNotFoundError as fault:
                raise MissingExtra("drawing a plot", "report") from fault
            axes = pyplot.subplots(layout="constrained")[1]
        check.plot(self.run.result, axes)
        return axes

    def to_frame(self) -> pd.DataFrame:
        """One row a number."""
        return Assessed((self.run,)).to_frame()

    def __repr__(self) -> str:
        return f"{self.id}: {self.status.value}: {self.sentence}"

    def _repr_html_(self) -> str:
        return Assessed((self.run,))._repr_html_()


@dataclass(frozen=True)
class Assessed:
    """What several checks found of one model.

    Attributes:
        results: The runs, in the order of their ids.
    """

    results: tuple[CheckRun, ...]

    @cached_property
    def runs(self) -> Mapping[str, Measured]:
        """Results by check id."""
        return {run.check: Measured(run) for run in self.results}

    @property
    def passed(self) -> bool:
        """Whether every target was met, there was one at least, and nothing crashed."""
        judged = [run.outcome.status for run in self.results if run.target is not None]
        crashed = any(run.outcome.status is Status.ERROR for run in self.results)
        return bool(judged) and not crashed and all(status is Status.PASS for status in judged)

    @property
    def counts(self) -> Mapping[str, int]:
        """How many checks ended how, the worst first."""
        found = Counter(run.outcome.status for run in self.results)
        return {status.value: found[status] for status in ORDER if found[status]}

    def __getitem__(self, check: str) -> Measured:
        """What one check found.

        Raises:
            KeyError: It was not run.
        """
        if check not in self.runs:
            raise KeyError(f"no result of '{check}'{nearest(check, self.runs)}")
        return self.runs[check]

    def __iter__(self) -> Iterator[Measured]:
        return iter(self.runs.values())

    def __len__(self) -> int:
        return len(self.results)

    def plot(self, check: str, axes: Axes | None = None) -> Axes:
        """Draw what one check measured; see `Measured.plot`."""
        return self[check].plot(axes)

    def to_frame(self) -> pd.DataFrame:
        """One row a number, with what it was judged against; a check that measured nothing has one row without."""
        import pandas as pd

        columns = ("check", "status", "metric", "value", "low", "high", "confidence", "unit", "n", "better", "judged")
        rows: list[tuple[Any, ...]] = []
        for run in self.results:
            start, meant = (run.check, run.outcome.status.value), run.judged_metric
            rows += [
                (*start, item.name, item.value, item.low, item.high, item.confidence, item.unit, item.n,
                 item.better.value, run.target is not None and meant is not None and item.name == meant.name)
                for item in run.metrics
            ]  # fmt: skip
            if not run.metrics:
                rows.append((*start, None, None, None, None, None, None, 0, None, False))
        return pd.DataFrame(rows, columns=list(columns))

    def save(self, folder: str | Path, *, name: str | None = None) -> Path:
        """Write an assessment folder, so that the command line goes on: answers, gate, report, signature.

        The model stays where it is: `target` of the new assessor.yaml is to be filled in before anything is measured
        again.

        Args:
            folder: New or empty.
            name: Of the system; default that of the folder.

        Returns:
            The folder.

        Raises:
            UsageError: It holds an assessment already.
        """
        path = Path(folder)
        files = init_files(name or folder_name(path))
        text = files[CONFIGURATION].decode()
        for run in self.results:
            if run.target is not None:
                wanted = run.target.model_dump(mode="json", exclude={"source"}, exclude_none=False)
                text = set_entry(text, "targets", run.check, wanted, CONFIGURATION)
        files[CONFIGURATION] = text.encode()
        project = Project.create(path, files, actor=current_user(), action="init")
        for run in self.results:
            project.save_run(run)
        return path

    def _sorted(self) -> list[CheckRun]:
        return sorted(self.results, key=lambda run: ORDER.index(run.outcome.status))

    def __repr__(self) -> str:
        width = max((len(run.check) for run in self.results), default=0)
        lines = [f"{run.check:{width}}  {run.outcome.status.value:14}  {told(run)}" for run in self._sorted()]
        return "\n".join([*lines, ", ".join(f"{n} {name}" for name, n in self.counts.items())])

    def _repr_html_(self) -> str:
        checks = load_checks()
        shown = [run for run in self._sorted() if run.outcome.status is not Status.NOT_APPLICABLE]
        absent = [run for run in self._sorted() if run.outcome.status is Status.NOT_APPLICABLE]
        cards = []
        for run in shown:  # one by one in this process: a notebook's is not to be forked
            check, result = checks.get(run.check), run.result
            plots = plots_svg({run.check: (check, result)}) if check and result else {}
            cards.append(card(run, check, *map(data_uri, plots.values())))
        counts = [{"status": name, "word": _(WORDS[Status(name)]), "n": n} for name, n in self.counts.items()]
        left = [{"id": run.check, "sentence": told(run)} for run in absent]
        return fragment(TEMPLATE, {"cards": cards, "absent": left, "counts": counts, "single": len(self.results) == 1})
