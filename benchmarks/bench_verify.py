"""`assessor verify` of a long tagged report: signed once at B-B, and by developer and auditor at B-LTA. Prints seconds.

A report of 120 pages and 30 000 objects is made, or one is named that is not signed. Wanted for both: under 5 s from
the command to its end. Run: python benchmarks/bench_verify.py [REPORT.pdf]
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from assessor.keys import new_key
from assessor.pages import Attached, pdf
from assessor.signing import Level, Proof, sign_pdf

sys.path.append(str(Path(__file__).parents[1]))  # the tests' timestamp authority

from tests.authority import Authority, serving

PAGES, REPEATS = 120, 3
ROLES = ("developer", "auditor")


def made() -> bytes:
    """A tagged report; what is attached holds no results."""
    page = f"<h1>Heading</h1>{'<p>word <b>word</b> word <i>word</i>' * 28}<p style='break-after: page'>"
    attached = Attached("assessment.json", b"{}", "", "2026-11-22T10:00:00Z")
    return pdf(f"<html lang=en><title>T</title>{page * PAGES}", attached)


def signed(folder: Path) -> dict[str, Path]:
    """The report at both levels."""
    office, last = Authority(), folder / "plain.pdf"
    (folder / "tsa.pem").write_bytes(office.pem)
    (folder / "tsa.crl").write_bytes(office.crl)
    with serving(office.answer) as url:
        for role in ROLES:
            key, target = new_key(folder / role, name=role, organisation="x", passphrase="p"), folder / f"{role}.pdf"
            if role == "developer":
                sign_pdf(last, key.p12, folder / "b-b.pdf", passphrase="p", role=role, reason="r")
            lists = [key.crl, folder / "tsa.crl"]
            proof = Proof(url, Level.LTA, [key.ca], [folder / "tsa.pem"], lists)
            sign_pdf(last, key.p12, target, passphrase="p", role=role, reason="r", proof=proof)
            last = target
    return {"one signature, B-B": folder / "b-b.pdf", "two signatures, B-LTA": last}


def timed(folder: Path, report: Path) -> tuple[float, float]:
    """Wall-clock and processor seconds, the least of a few runs."""
    command = [Path(sys.executable).with_name("assessor"), "verify", report, "--tsa-trust", folder / "tsa.pem"]
    for role in ROLES:
        command += ["--trust", folder / role / "ca.pem"]
    taken = []
    for _ in range(REPEATS):
        begin, before = time.perf_counter(), os.times()
        subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
        spent = os.times()
        processor = spent.children_user + spent.children_system - before.children_user - before.children_system
        taken.append((time.perf_counter() - begin, processor))
    return min(taken)


def main() -> None:
    """Sign and verify."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if len(sys.argv) > 1:
            shutil.copy(sys.argv[1], folder / "plain.pdf")
        else:
            (folder / "plain.pdf").write_bytes(made())
        print(f"{(folder / 'plain.pdf').stat().st_size / 1e6:.1f} MB")
        for what, report in signed(folder).items():
            wall, processor = timed(folder, report)
            print(f"{what:25} {wall:6.2f} s, {processor:6.2f} s of processor")


if __name__ == "__main__":
    main()
