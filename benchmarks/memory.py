"""Peak memory of collecting 20,000 texts, in memory and streamed to disk.

Each case runs in a process of its own, so that the peak is its own.
"""

import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from common import Ratio, Report, arguments, prompts, random_lm, show

from contrans.models.collect import collect


def peak() -> int:
    """Most memory this process has held, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def case(count: int, kind: str) -> None:
    """Collect in this process and print what it took above the model."""
    lm = random_lm()
    known = prompts("anger", 200)
    collect(lm, known[:64])  # what any forward needs: buffers, code
    before = peak()
    texts = [f"{i} {known[i % len(known)]}" for i in range(count)]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "states.safetensors" if kind == "disk" else None
        values = collect(lm, texts, out=out).values
        print(json.dumps({"above": peak() - before, "result": values.nbytes}))


def main(options) -> list[Report]:
    count, ratios, checks = (2000 if options.quick else 20_000), [], {}
    for kind in ("memory", "disk"):
        command = [sys.executable, __file__, "--case", kind, str(count)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
        above, result = found["above"] / 2**20, found["result"] / 2**20
        checks[kind] = (
            f"{above:.0f} MiB above the model, the result has {result:.0f} MiB"
        )
        if kind == "memory":
            ratios.append(
                Ratio("MB above model and result", above - result, 300, at_least=False)
            )
    checks["streamed"] = "pages of the file count while they are in memory"
    on = f"{count} texts, 12 layers of width 512, last token"
    return [Report("memory", on, {}, ratios, checks)]


if __name__ == "__main__":
    if "--case" in sys.argv:
        case(int(sys.argv[3]), sys.argv[2])
    else:
        chosen = arguments(__doc__ or "")
        show(main(chosen), chosen)
