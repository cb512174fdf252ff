"""Code in model files: what they would import or run when they are loaded, found without loading them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, StringConstraints

from assessor.contract import (
    Better,
    Check,
    CheckInfo,
    Metric,
    Need,
    NotApplicable,
    Params,
    Result,
    Subject,
    Table,
    Task,
    progress,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes

    from assessor_checks.security._known_imports import Standing
    from assessor_checks.security._model_files import Found, Look

ROWS = 200  # findings that are shown
INFO = CheckInfo(
    id="security.model_file",
    version="1",
    title="Code in model files",
    measures=(
        "Looks into the files that hold the model, before anything is loaded, for what would run when they are: "
        "imports of pickles, code in Keras layers, operators and paths of ONNX models, headers of safetensors and GGUF "
        "files. Counts what is known to be dangerous, what nobody has vouched for, and parts that could not be read."
    ),
    unit="imports",
    needs=frozenset({Need.FILES}),
    tasks=frozenset(Task),
    limits=(
        "No finding is no proof that a file is harmless: it says that nothing known as bad was found.",
        "Code that comes with the model (its architecture, a custom operator) is not read, and files that are not "
        "named under target.model are not looked into.",
        "A model whose weights were manipulated, a backdoor for instance, runs no code and is not found here.",
        "The names known as dangerous are a list that grows; unknown imports want a person who looks at them.",
        "A file that is cut off, or whose numbers were changed, can often be read all the same; compare its digest.",
        "lz4, zstd, 7z and rar are not unpacked, and encrypted parts not read; they are counted as unreadable.",
    ),
    remedy=(
        "Do not load a file with a dangerous import; ask where it comes from. Store weights as safetensors, or load "
        "with torch.load(weights_only=True). Look at the code behind unknown imports and name what you vouch for under "
        "the parameter trusted. Ask for files again that cannot be read."
    ),
    remedy_code=(
        "from safetensors.torch import load_file, save_file\n"
        "save_file(model.state_dict(), 'model.safetensors')\n"
        "model.load_state_dict(load_file('model.safetensors'))"
    ),
    source=(
        "Opcodes after Python's pickletools, PEP 307, 3154 and 574; Slaviero, Sour Pickles, Black Hat USA 2011; Liu et "
        "al. 2025, arXiv 2508.19774 (how scanners are evaded); OWASP Machine Learning Security, ML06"
    ),
    requirements=("S-R-IA-ME-06", "S-R-IA-ME-02"),
)


class ModelFileParams(Params):
    """What the user may set."""

    trusted: tuple[Annotated[str, StringConstraints(pattern=r"^[A-Za-z_]\w*(\.\w+)*(\.\*)?$")], ...] = Field(
        default=(),
        description=(
            "Imports that somebody has looked at and vouches for, such as my_package.Net, or my_package.* for all of a "
            "package. What is known to be dangerous stays so."
        ),
    )
    unpacked: int = Field(
        default=1 << 30, ge=1 << 20, le=1 << 36, description="Most bytes of one file that are unpacked in memory."
    )


def measure(subject: Subject, params: ModelFileParams, seed: int) -> Result:
    """Counts of dangerous imports, unknown imports and unreadable parts over all files.

    Args:
        subject: Any subject whose model files are named; nothing of it is loaded.
        params: Vouched-for imports and the bound on what is unpacked.
        seed: Not used.

    Returns:
        Three exact counts, a table of files and one of findings.

    Raises:
        NotApplicable: A file is not there or is no file.
    """
    from assessor_checks.security._known_imports import Standing

    looks = _looks(subject, params)
    found = [
        (name, one)
        for name, look in looks.items()
        for one in look.found
        if one.standing is not Standing.UNKNOWN or not _is_trusted(one.what, params.trusted)
    ]
    of = {kind: {(name, one) for name, one in found if one.standing is kind} for kind in Standing}
    dangerous, unknown = ({one.what for _, one in of[kind]} for kind in (Standing.DANGEROUS, Standing.UNKNOWN))
    parts, unread = sum(look.parts for look in looks.values()), len(of[Standing.UNREADABLE])
    trusted = {one.what for look in looks.values() for one in look.found} - {one.what for _, one in found}
    return Result(
        metrics=(
            _count("dangerous_imports", len(dangerous), unread, parts, "different imports known to be dangerous"),
            _count("unknown_imports", len(unknown), unread, parts, "different imports that nobody vouched for"),
            _count("unreadable_parts", unread, 0, parts, "parts of files that could not be read"),
        ),
        tables=(_files(looks), *_findings(found)),
        remarks=tuple(_remarks(dangerous, unknown, trusted, unread, len(found))),
        danger=_danger(dangerous),
    )


def _danger(dangerous: set[str]) -> str | None:
    if not dangerous:
        return None
    names = ", ".join(sorted(dangerous)[:3])
    return f"Loading the model's files can run code of somebody else's choosing: {names}."


def _looks(subject: Subject, params: ModelFileParams) -> Mapping[str, Look]:
    from assessor_checks.security._model_files import look_into

    looks, files = {}, subject.origin.files
    if not files:
        raise NotApplicable("no file holds the model (target.model.files)")
    for done, (name, path) in enumerate(files.items(), start=1):
        try:
            looks[name] = look_into(path, most=params.unpacked)
        except OSError as fault:
            raise NotApplicable(f"the model file {name} cannot be read: {fault.strerror or fault}") from fault
        progress("files", done, len(files))
    return looks


def _is_trusted(name: str, trusted: tuple[str, ...]) -> bool:
    return any(name.startswith(one[:-1]) if one.endswith(".*") else name == one for one in trusted)


def _count(name: str, value: int, unread: int, parts: int, what: str) -> Metric:
    how = f"counted: {what}; exact, so that both ends are the value"
    if unread:
        how = f"counted: {what}; the upper end adds one for every part that could not be read"
    return Metric(
        name=name,
        value=value,
        low=value,
        high=value + unread,
        unit="parts" if name == "unreadable_parts" else INFO.unit,
        n=parts,
        better=Better.LOWER,
        method=how,
        primary=name == "dangerous_imports",
    )


def _files(looks: Mapping[str, Look]) -> Table:
    rows = [
        (name, look.format, look.size, look.parts, look.pickles, look.known, *_tally(look.found))
        for name, look in looks.items()
    ]
    columns = ("file", "format", "bytes", "parts", "pickles", "known", "unknown", "dangerous", "unreadable")
    return Table(name="files", title="Files and the imports and parts in them", columns=columns, rows=tuple(rows))


def _tally(found: tuple[Found, ...]) -> tuple[int, int, int]:
    from assessor_checks.security._known_imports import Standing

    counts = Counter(one.standing for one in found)
    return counts[Standing.UNKNOWN], counts[Standing.DANGEROUS], counts[Standing.UNREADABLE]


def _findings(found: list[tuple[str, Found]]) -> tuple[Table, ...]:
    if not found:
        return ()
    ordered = sorted(found, key=lambda item: (_weight(item[1].standing), item[0]))
    rows = tuple((one.standing.value, one.what[:300], name, one.part[:300]) for name, one in ordered[:ROWS])
    columns = ("standing", "what", "file", "part")
    return (Table(name="findings", title="What was found, the worst first", columns=columns, rows=rows),)


def _weight(standing: Standing) -> int:
    return {"dangerous": 0, "unreadable": 1, "unknown": 2}.get(standing.value, 3)


def _remarks(dangerous: set[str], unknown: set[str], trusted: set[str], unread: int, shown: int) -> list[str]:
    found = []
    if not dangerous:
        found.append("No known-bad import was found. That is no proof that the files are harmless.")
    if unread:
        found.append(f"Parts that could not be read: {unread}. Each of them may hold more.")
    if unknown:
        found.append(f"Imports that are on no list: {len(unknown)}. Somebody has to look at the code behind them.")
    if trusted:
        found.append(f"Imports vouched for by the parameters: {len(trusted)}.")
    if shown > ROWS:
        found.append(f"Of {shown} findings the first {ROWS} are shown.")
    return found


def plot(result: Result, axes: Axes) -> None:
    """Bars of known, unknown, dangerous and unreadable by file."""
    names = [str(row[0]) for row in result.tables[0].rows]
    shades = {"known": "0.85", "unknown": "0.6", "unreadable": "0.35", "dangerous": "black"}
    columns = result.tables[0].columns
    left = [0.0] * len(names)
    for kind, shade in shades.items():
        counts = [float(row[columns.index(kind)] or 0) for row in result.tables[0].rows]
        axes.barh(names, counts, left=left, color=shade, edgecolor="black", label=kind)
        left = [before + count for before, count in zip(left, counts, strict=True)]
    axes.margins(y=1 / len(names))  # a single bar shall not fill the picture
    axes.set_xlabel("imports or parts")
    axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=len(shades))


CHECK = Check(info=INFO, params=ModelFileParams, measure=measure, plot=plot)
