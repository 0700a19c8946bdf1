"""Coverage-guided fuzzing of every reader (`tests.hostile.READERS`) with atheris: what is met that no test thought of?

    python benchmarks/fuzz.py [--seconds 60] [--out fuzz] [READER ...]

Each reader is fuzzed for so many seconds in a process of its own. What raises anything but `FerError`, an error that
does not name its file, takes more than 20 seconds or 3 GiB is kept in the folder ``out``: one input a kind, with the
traceback beside it. Needs ``pip install atheris``, which no other part of the package uses.
"""

from __future__ import annotations

import argparse
import random
import re
import subprocess
import sys
import tempfile
import traceback
import warnings
from pathlib import Path

ROOT = Path(__file__).parent.parent
#: Whose branches count as new. Others, and C code, are run but not looked into: atheris takes minutes for torch.
INSTRUMENTED = ["fer_helpers", "PIL", "zipfile", "json", "yaml", "numpy.lib"]


def fuzz(name: str, seconds: int, out: Path) -> None:
    """Fuzz one reader; does not return."""
    import atheris
    import torch

    with atheris.instrument_imports(include=INSTRUMENTED):
        from tests import hostile

    torch.set_num_threads(1)
    reader, chance = hostile.READERS[name], random.Random(0)
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    models = hostile.small_network()
    models.__enter__()  # for as long as the process lives
    reader.write(folder)
    corpus = folder.parent / f"{folder.name}-corpus"
    corpus.mkdir()
    good = [(folder / file).read_bytes() for file in reader.files]
    for number, data in enumerate(good):
        (corpus / str(number)).write_bytes(bytes([number]) + data)

    def one(data: bytes) -> None:
        if not data:
            return
        file = reader.files[data[0] % len(reader.files)]
        try:
            with warnings.catch_warnings(action="ignore"):
                hostile.attempt(reader, folder, file, data[1:])
        except Exception as error:
            frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "fer_helpers" in frame.filename]
            place = f"{Path(frames[-1].filename).stem}-{frames[-1].lineno}" if frames else "nowhere"
            kept = out / f"{name.replace(' ', '_')}-{type(error).__name__}-{place}"
            if not kept.exists():
                kept.write_bytes(data)
                kept.with_suffix(".txt").write_text(f"{file}\n{traceback.format_exc()[-20_000:]}", "utf-8",
                                                    "backslashreplace")

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        chance.seed(seed)
        if not data or chance.random() < 0.5:
            return atheris.Mutate(data, most)
        return (data[:1] + hostile.spoil(data[1:], chance))[:most]

    atheris.Setup([sys.argv[0], str(corpus), f"-max_total_time={seconds}", "-timeout=20", "-rss_limit_mb=3072",
                   f"-max_len={2 * max(map(len, good)) + 5000}", f"-artifact_prefix={out}/{name.replace(' ', '_')}-",
                   "-print_final_stats=1", "-verbosity=1"], one, custom_mutator=mutate)
    atheris.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("readers", nargs="*", metavar="READER")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--out", type=Path, default=Path("fuzz"))
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "support")]
    options.out.mkdir(parents=True, exist_ok=True)
    if options.alone:
        fuzz(options.readers[0], options.seconds, options.out)
    from tests.hostile import READERS

    print("| reader | executions | seconds | kinds of findings |\n| --- | --- | --- | --- |", flush=True)
    for name in options.readers or READERS:
        run = subprocess.run([sys.executable, __file__, name, "--alone", "--seconds", str(options.seconds), "--out",
                              str(options.out)], capture_output=True, text=True, errors="replace", check=False)
        done = re.search(r"Done (\d+) runs in (\d+) second", run.stderr)
        executions, seconds = done.groups() if done else ("ended early", run.stderr[-500:])
        kinds = len([path for path in options.out.glob(f"{name.replace(' ', '_')}-*") if path.suffix != ".txt"])
        print(f"| {name} | {executions} | {seconds} | {kinds} |", flush=True)


if __name__ == "__main__":
    main()
