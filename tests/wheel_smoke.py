"""Try an installed safeload from outside its source tree; `nox -s wheel` runs this with "pure" or "compiled".

Not a pytest module: it runs where nothing but safeload and what it requires is installed.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path


def expect(status: int, text: str, *arguments: str) -> None:
    """Run the installed command as a person would; it must end with `status` and say `text`."""
    script = Path(sys.executable).with_name("safeload")
    done = subprocess.run([str(script), *arguments], capture_output=True, text=True, check=False)
    output = done.stdout + done.stderr
    if done.returncode != status or text not in output:
        raise SystemExit(f"safeload {' '.join(arguments)}: exit status {done.returncode}, not {status} with {text!r}:\n{output}")


def main() -> None:
    """Check what a wrong wheel would get wrong: the machine, the data files, the entry point."""
    import safeload
    from safeload.walk import MACHINE

    assert "site-packages" in str(Path(str(safeload.__file__))), safeload.__file__
    assert sys.argv[1] == MACHINE, f"expected the {sys.argv[1]} machine, got {MACHINE}"
    assert "torch" not in sys.modules

    expect(0, safeload.__version__, "--version")
    expect(0, "SL101", "explain", "SL101")
    with tempfile.TemporaryDirectory() as directory:
        hostile = Path(directory, "hostile.pkl")
        hostile.write_bytes(b"cos\nsystem\n(S'true'\ntR.")
        expect(1, "os.system", "scan", str(hostile))
        benign = Path(directory, "benign.pkl")
        benign.write_bytes(b"\x80\x02}q\x00X\x01\x00\x00\x00aq\x01K\x01s.")
        expect(0, "benign.pkl", "scan", str(benign))
    print(f"wheel: {MACHINE} machine, commands answer")


if __name__ == "__main__":
    main()
