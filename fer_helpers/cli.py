"""The ``fer`` command: a thin layer over the package. One clear line for a user's error, never a traceback."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import enum
import io
import json
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

# All else is imported by the command that uses it: torch takes seconds, and workers of a sweep import this module too.
from .files import FerError, bar_options, needs_extra, printable, write_atomic
from .training.settings import explain_settings, read_settings


def _examples(*commands: str) -> str:
    """What ``--help`` ends with."""
    return "\n\n".join(["Examples:", *commands])


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """What trains ends in one line, with exit code 130, by Ctrl-C or by SIGTERM, as a cluster ends a job."""
    # Not the handler of SIGINT, which a shell may have had ignored (nohup, &).
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt as stop:
        typer.echo(str(stop) or "interrupted; the same command goes on from here", err=True)
        raise typer.Exit(130) from None


app = typer.Typer(help="Train networks on facial expressions, see what they learnt, ask them about a photograph.",
                  epilog=_examples("fer predict photo.jpg", "fer train arch=compact epochs=2", "fer train --help"),
                  no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)
data_app = typer.Typer(help="Download and check data.", no_args_is_help=True)
app.add_typer(data_app, name="data")


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"fer_helpers {version('fer_helpers')}")
        raise typer.Exit()


@app.callback()
def options(show: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True,
                                               help="Print the version and leave.")] = False) -> None:
    pass


Data = Annotated[str, typer.Option("--data", "--images", help="Folder, table, CSV or zip of faces; empty takes "
                                   "FER_DATA or the synthetic faces.")]
Labelled = Annotated[Path | None, typer.Option("--labels", help="Table of pictures (path, label, perhaps split and "
                                               "subject) whose paths start in the folder of faces.")]
Store = Annotated[Path | None, typer.Option(help="Folder of runs; without it FER_RUNS or ./runs.")]
Settings = Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE...", help="Settings, each once.")]
Named = Annotated[str, typer.Argument(metavar="RUN", help="Name or folder of a finished run.")]


@data_app.command("download", epilog=_examples("fer data download data/fer2013"))
def data_download(target: Annotated[Path, typer.Argument(help="Folder to create.")] = Path("data/fer2013"),
                  dataset: Annotated[str, typer.Option(help="Kaggle dataset.")] = "msambare/fer2013") -> None:
    """Fetch FER2013 from Kaggle (needs the "download" extra and a network)."""
    from .data import readers

    typer.echo(f"Faces are in {readers.download_faces(target, dataset)}; use them with FER_DATA={target}")


@data_app.command("check", epilog=_examples("fer data check faces", "fer data check fer2013.csv --json",
                                              "fer data check faces --augmented"))
def data_check(source: Annotated[str, typer.Argument(help="Folder, CSV or archive; empty as for --data.")] = "",
               labels: Labelled = None,
               augmented: Annotated[bool, typer.Option("--augmented", help="Also find test images that are mirrored, "
                                                       "shifted, rotated or cropped copies; takes minutes.")] = False,
               as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Count, find duplicates, leakage, label conflicts and broken images; exit 1 if there are errors."""
    from .data import readers, validation

    found = validation.check_faces(readers.load_faces(source, labels=labels), augmented)
    typer.echo(json.dumps(found.to_dict(), indent=2) if as_json else found.table())
    if not found.ok:
        raise typer.Exit(1)


@data_app.command("cache", epilog=_examples("fer data cache path/to/fer2013 data/mapped"))
def data_cache(source: Annotated[str, typer.Argument(help="Folder, CSV or archive of faces, or synthetic.")],
               target: Annotated[Path, typer.Argument(help="Folder to create.")], labels: Labelled = None) -> None:
    """Lay faces in a folder that trainings read from batch by batch: for more faces than fit in memory."""
    from .data import readers

    faces = readers.map_faces(source, target, labels=labels)
    typer.echo(f"{target}: {len(faces):,} faces; use them with FER_DATA={target}")


@data_app.command("align", epilog=_examples("fer data align path/to/fer2013 data/aligned"))
def data_align(source: Annotated[str, typer.Argument(help="Folder, CSV or archive of faces.")],
               target: Annotated[Path, typer.Argument(help="Folder to create.")]) -> None:
    """Turn, scale and shift every face until its eyes lie where those of `fer predict` do (needs the "photo" extra)."""
    from .data import readers
    from .inference.detection import align_faces

    faces = readers.load_faces(source)
    aligned = align_faces(faces, target)
    if (votes := Path(source) / "fer2013new.csv").is_file():
        shutil.copy(votes, target)
    typer.echo(f"{target}: {aligned:,} of {len(faces):,} faces are aligned, the others as they were; use them with "
               f"FER_DATA={target}")


@app.command(epilog=_examples("fer models", "fer models --classes 3"))
def models(classes: int = 6) -> None:
    """List the architectures with their parameters and cost."""
    from .models.factory import model_table

    typer.echo(model_table(num_classes=classes).to_string(float_format="{:,.0f}".format))


@app.command(epilog=_examples(
    "fer train arch=resnet50 optimizer=adam epochs=10 --data fer2013.csv",
    "fer train method=supcon epochs=4",
    "fer train --images pictures --labels labels.csv",
    "torchrun --nproc-per-node 2 --no-python fer train arch=vgg16",
    "Settings, each with its default:", "method=plain: a way to learn, such as supcon or focal, see docs/training.md.",
    *explain_settings()))
@_interruptible()
def train(settings: Settings = None, data: Data = "", labels: Labelled = None, store: Store = None) -> None:
    """Train one run, in several processes where torchrun starts them; a run that is finished is not trained again."""
    given = _single(settings)
    import pandas as pd

    from .data import readers, validation
    from .training import distributed
    from .training.methods import configure
    from .training.runs import train_run
    from .training.trainer import prepare_faces

    config = configure(given)
    with distributed.connect() as context:
        faces = readers.load_faces(data, labels=labels, progress=context.is_main)
        for finding in validation.check_class_shares(prepare_faces(config, faces)) if context.is_main else ():
            typer.echo(f"warning: {finding.text}", err=True)
        run = train_run(config, faces, store)
    if context.is_main:
        scores = pd.DataFrame({split: scores.summary() for split, scores in run.metrics.items()})
        typer.echo(f"{run.folder}\n{scores.to_string()}")


@app.command(epilog=_examples("fer runs", "fer runs --csv --store runs"))
def runs(store: Store = None, as_csv: Annotated[bool, typer.Option("--csv", help="Print every column.")] = False,
         as_markdown: Annotated[bool, typer.Option("--markdown", help="Print a table for a README.")] = False) -> None:
    """List finished runs, best first."""
    from .training.runs import default_store, load_runs, markdown_table

    table = load_runs(store)
    if table.empty:
        raise FerError(f"{store or default_store()}: holds no finished run; train one with fer train")
    table = table.sort_values("test_accuracy", ascending=False).drop(columns="run")
    if as_markdown:
        typer.echo(markdown_table(table))
        return
    short = ["arch", "optimizer", "schedule", "classes", "epochs", "seed", "test_accuracy", "test_low", "test_high"]
    typer.echo(table.to_csv() if as_csv else table[short].to_string(float_format="{:.3f}".format))


@app.command(epilog=_examples("fer record NAME", "fer record runs/NAME data/results"))
def record(run: Named, target: Annotated[Path, typer.Argument(help="Store of recorded results.")]
           = Path("data/results"),
           weights: Annotated[bool, typer.Option("--weights", help="Also the weights, in float16, their model "
                                                                   "card, and the predictions on validation "
                                                                   "images.")] = False,
           store: Store = None) -> None:
    """Copy a run's small files (no pixels) to the recorded results."""
    from .inference import loading, model_card, pretrained
    from .training.runs import record_run

    kept = record_run(loading.find_run(run, store), target, weights, weights)
    if weights:
        card = model_card.model_card(kept, pretrained.calibration_of(kept))
        write_atomic(kept.folder / "README.md", lambda path: path.write_text(card, encoding="utf-8"))
    typer.echo(kept.folder)


@app.command("results", epilog=_examples("fer results", "fer results --figure findings.svg", "fer results --verdicts"))
def show_results(
        figure: Annotated[Path | None, typer.Option(help="Also draw the figure, e.g. as findings.svg.")] = None,
        verdicts: Annotated[bool, typer.Option("--verdicts", help="Print the original study's claims and what became "
                                                                  "of them, as in the README.")] = False) -> None:
    """Print what was found on photographs as Markdown: the recorded results, as in docs/results.md."""
    with needs_extra("report"):
        from .report import summary
        from .viz import use_style

    typer.echo(summary.verdict_table("notebooks/{}") if verdicts else summary.markdown())
    if figure is not None:
        use_style()
        drawn = summary.figure()
        write_atomic(figure, lambda path: drawn.savefig(path, metadata={"Date": None}))


@app.command(epilog=_examples("fer publish NAME"))
def publish(run: Named, store: Store = None) -> None:
    """Make a run of seven classes the network of its architecture that ships with the package: mobile is the small one,
    compact the best one."""
    from .inference import loading, pretrained

    typer.echo(pretrained.publish(loading.find_run(run, store)))


@app.command(epilog=_examples("fer push NAME user/faces", "fer push NAME user/faces --public"))
def push(run: Named,
         repo: Annotated[str, typer.Argument(help="user/name on the Hugging Face Hub.")],
         public: Annotated[bool, typer.Option("--public", help="Let everybody see a new repository.")] = False,
         store: Store = None) -> None:
    """Share a run's weights, metrics and model card on the Hugging Face Hub (needs the "hub" extra)."""
    from .inference import hub, loading

    typer.echo(hub.push(loading.find_run(run, store), repo, private=not public))


@app.command(epilog=_examples(
    "fer study --list",
    "fer study --data path/to/fer2013",
    "fer study original --data path/to/fer2013 --minutes 60"))
@_interruptible()
def study(groups: Annotated[list[str] | None, typer.Argument(metavar="GROUP...", help="Of the plan; all by default.")]
          = None,
          data: Data = "", store: Store = None,
          as_list: Annotated[bool, typer.Option("--list", help="Say what is recorded, what is missing and what it "
                                                               "would cost; train nothing.")] = False,
          minutes: Annotated[float, typer.Option(help="Begin no training after these.", min=0)] = float("inf"),
          plan: Annotated[Path | None, typer.Option(help="Plan file; without it the repository's.")] = None,
          results: Annotated[Path | None, typer.Option(help="Recorded results; without it the repository's.")] = None
          ) -> None:
    """Train what is missing of the recorded trainings, the most wanted first; small records are kept, no weights.

    Interrupted, the same command goes on from there.
    """
    from .experiments.study import Study, read_plan

    study = Study(read_plan(plan), results)
    if not as_list:
        from .data.readers import load_faces

        for failure in study.train(load_faces(data), groups or (), store, minutes):
            typer.echo(f"failed: {failure}", err=True)
    table = study.table(groups or ())
    typer.echo(table.to_string(formatters={"hours": "{:.1f}".format}))
    if table["missing"].any() and not as_list:
        raise typer.Exit(1)


class Format(enum.StrEnum):
    """How answers are printed."""

    text = enum.auto()
    json = enum.auto()
    csv = enum.auto()


class Shipped(enum.StrEnum):
    """The networks that ship with the package."""

    small = enum.auto()
    best = enum.auto()


class Faces(enum.StrEnum):
    """What a picture shows."""

    detect = enum.auto()
    cropped = enum.auto()


@app.command(epilog=_examples(
    "fer predict photo.jpg",
    "fer predict holidays film.mp4 --every 0.5 --format csv",
    "fer predict photo.jpg --network best --out answers --attribution",
    "fer predict test/fear --faces cropped --format csv"))
def predict(photos: Annotated[list[Path], typer.Argument(metavar="PHOTO...", help="Pictures, films or folders.")],
            network: Annotated[Shipped | None, typer.Option(help="Which of those that ship: small, fast (taken "
                                                            "without this), or best, right more often.")] = None,
            run: Annotated[str, typer.Option(help="Name or folder of a run, in place of a shipped network.")] = "",
            store: Store = None,
            detector: Annotated[str, typer.Option(help="retinaface (frontal faces and others, from 60 "
                                                "pixels in width), cascade (large frontal ones) or auto.")] = "auto",
            faces: Annotated[Faces, typer.Option(help="detect looks for faces; cropped takes each picture for one, as "
                                                      "data sets have them, without a detector.")] = Faces.detect,
            form: Annotated[Format, typer.Option("--format", help="json gives a line a picture, csv a line a face.")]
            = Format.text,
            out: Annotated[Path | None, typer.Option(help="Folder for annotated pictures, NAME.fer.png.")] = None,
            attribution: Annotated[bool, typer.Option(help="Show there what spoke for each answer.")] = False,
            every: Annotated[float, typer.Option(help="Seconds between the frames of a film.", min=0)] = 1.0,
            jobs: Annotated[int, typer.Option(help="Files at a time, each in its own process.", min=1)] = 1) -> None:
    """Find the faces of photographs and name their expressions.

    An answer below the threshold of confidence is "unsure". Nothing leaves this machine. Faces are numbered by size,
    which says nothing of who they are; in a film "track" follows a face from one look to the next.
    """
    from tqdm.auto import tqdm

    from .inference import loading
    from .inference import photographs as album
    from .inference.detection import choose_detector

    cropped = faces == Faces.cropped
    if not cropped:
        choose_detector(detector)  # said once, not of every picture
    if network and run:
        raise FerError(f"--network {network} and --run {run} name two networks; give one of them")
    asked, files, failed = loading.load_network(run or network or "", store), album.find_pictures(photos), 0
    drawings = album.Drawings(out, photos, files) if out else None
    write = _printer(form, asked.config.class_names, asked.model.voter is not None)
    typer.echo(album.MEANING, err=True)
    hinted = cropped
    told = album.looks_in_turn(files, jobs, asked, detector, cropped, every, drawings, attribution)
    for path, looks, wrong in tqdm(told, "pictures", len(files), unit="file",
                                   **bar_options(len(files) > 1 and sys.stderr.isatty())):
        try:
            for seconds, found, seems_cropped in looks:
                if seems_cropped and not hinted:
                    hinted = True
                    typer.echo(f"hint: {printable(str(path))}: no face found in a small square picture; if it is a "
                               "face cut out already, give --faces cropped", err=True)
                write(path, seconds, found)
        except FerError as error:  # one bad picture in a folder must not cost the answers for the others
            wrong = str(error)
        if wrong:
            failed += 1
            typer.echo(f"error: {wrong}", err=True)
    if failed:
        raise typer.Exit(1)


def _printer(form: Format, classes: Sequence[str], votes: bool
             ) -> Callable[[Path, float | None, list[dict[str, Any]]], None]:
    """Prints the faces of one picture, at once: whoever reads a pipe gets them while the rest is worked on."""
    from .inference.photographs import ten_people

    columns = ["file", "seconds", "face", "track", "left", "top", "right", "bottom", "detection_score", "answer",
               "most_probable", "confidence", *classes, *(f"votes_{name}" for name in classes if votes)]
    table = csv.DictWriter(sys.stdout, columns, extrasaction="ignore")
    if form == Format.csv:
        table.writeheader()

    def write(path: Path, seconds: float | None, faces: list[dict[str, Any]]) -> None:
        when = {} if seconds is None else {"seconds": round(seconds, 3)}
        if form == Format.json:
            typer.echo(json.dumps({"file": str(path)} | when | {"faces": faces}))
        elif form == Format.csv:
            # A name need not be text; and a picture without a face is looked at, too.
            look = {"file": str(path).encode(errors="backslashreplace").decode()} | when
            table.writerows([look | {"face": number} | dict(zip(columns[4:8], face["box"], strict=True))
                             | face["probabilities"] | face | {f"votes_{name}": share for name, share in
                                                               face.get("votes", {}).items()}
                             for number, face in enumerate(faces, 1)] or [look])
            sys.stdout.flush()
        else:
            where = printable(str(path)) + ("" if seconds is None else f" at {seconds:.3f} s")
            typer.echo(f"{where}: {len(faces) or 'no'} face{'s' if len(faces) != 1 else ''} found")
            for number, face in enumerate(faces, 1):
                ranked = sorted(face["probabilities"].items(), key=lambda item: -item[1])
                left, top, right, bottom = face["box"]
                typer.echo(f"  {number}. {face['answer']:<9}  " + ", ".join(f"{name} {value:.0%}" for name, value in
                           ranked[:3]) + f"   at ({left:.0f}, {top:.0f}) to ({right:.0f}, {bottom:.0f})")
                if "votes" in face:
                    typer.echo("     of ten people would say " + ", ".join(
                        f"{name} {count}" for name, count in ten_people(face["votes"]).items()))

    return write


@app.command(epilog=_examples(
    "fer export --onnx faces.onnx",
    "fer export --onnx fast.onnx --tta none",
    "fer export NAME --onnx faces.onnx --int8 --data fer2013.csv"))
def export(run: Annotated[str, typer.Argument(help="Name or folder of a run, small or best; small without it.")] = "",
           onnx: Annotated[Path, typer.Option(help="File to write.")] = Path("fer.onnx"),
           int8: Annotated[bool, typer.Option("--int8", help="Also write an int8 version beside it.")] = False,
           tta: Annotated[str, typer.Option(help="Views to average: none (fastest), flip or ten_crop; without it those "
                                                 "that the network was tested with.")] = "",
           data: Data = "", store: Store = None) -> None:
    """Write a network as ONNX: uint8 faces in, probabilities out.

    The faces of --data check it: the test images compare the answers, train images set the ranges of int8.
    """
    from .data import readers
    from .inference import loading
    from .inference import onnx_export as to
    from .metrics.evaluation import compare

    network = loading.load_network(run, store)
    if tta:
        network = dataclasses.replace(network, config=dataclasses.replace(network.config, tta=tta))
    faces = readers.load_faces(data).with_classes(network.config.classes)
    tests = faces.only("test")
    plain = to.export_onnx(network, onnx, tests.images[:256])
    typer.echo(f"{onnx}: {onnx.stat().st_size:,} bytes, differs from PyTorch by {plain.difference:.1e}")
    if int8:
        some, target = faces.only("train"), onnx.with_name(f"{onnx.stem}-int8{onnx.suffix}")
        small = to.quantise(network, onnx, target, some.images[::max(1, len(some) // 256)], tests.images)
        right = [to.answers(path, tests.images).argmax(1) == tests.labels.numpy() for path in (target, onnx)]
        cost = compare(*right).difference
        typer.echo(f"{target}: {target.stat().st_size:,} bytes, the same answer on {small.agreement:.1%} of "
                   f"{len(tests):,} test images, accuracy {right[1].mean():.1%} -> {right[0].mean():.1%}, a change of "
                   f"{100 * cost.value:+.1f} points [{100 * cost.low:.1f}, {100 * cost.high:.1f}]")


@app.command(epilog=_examples(
    "fer sweep arch=vgg16,resnet50 optimizer=sgd,adam seed=0,1,2",
    "fer sweep method=plain,supcon,focal epochs=4 --jobs 2 --memory 4GiB --time-limit 2h",
    "fer sweep lr=0.003,0.01,0.03,0.1 label_smoothing=0,0.1,0.2 augmentation=none,flip,standard --search 12",
    "fer sweep plan.yaml --scheduler tcp://host:8786 --resource GPU=1 --store /shared/runs"))
@_interruptible()
def sweep(settings: Annotated[list[str] | None, typer.Argument(
              metavar="KEY=VALUE... | PLAN.yaml", help="Values of each setting, or a file of grid: or runs:")] = None,
          data: Data = "", store: Store = None,
          jobs: Annotated[int, typer.Option(help="Runs at a time; 0: one per two processors.", min=0)] = 0,
          scheduler: Annotated[str, typer.Option(help="Running Dask scheduler; without it this machine.")] = "",
          resource: Annotated[list[str] | None, typer.Option(help="NAME=AMOUNT that a job takes of a worker.")] = None,
          threads: Annotated[int, typer.Option(help="Threads a run; 0: a fair share.", min=0)] = 0,
          memory: Annotated[str, typer.Option(help="Most memory of a run's process, such as 4GiB; Linux.")] = "",
          time_limit: Annotated[str, typer.Option(help="Most time of a run, such as 90min.")] = "",
          retries: Annotated[int, typer.Option(help="New tries of a run that failed.", min=0)] = 2,
          search: Annotated[int, typer.Option(help="Runs chosen one by one by the ones before; 0: all.", min=0)] = 0,
          sampler: Annotated[str, typer.Option(help="How --search chooses: tpe or random.")] = "tpe",
          prune: Annotated[bool, typer.Option(help="Whether --search ends hopeless runs early.")] = True) -> None:
    """Run 02_training over a grid of settings, or the promising part of it; what is finished is skipped.

    Interrupted, it ends its runs; the same command goes on where they were.
    """
    with needs_extra("sweep"):
        from dask.utils import parse_bytes, parse_timedelta

        from .experiments import sweeps
        from .experiments.notebooks import Limits
        from .experiments.search import Search

    plan = settings or []
    in_file = len(plan) == 1 and plan[0].endswith((".yaml", ".yml"))
    axes = sweeps.read_plan(Path(plan[0])) if in_file else read_settings(plan)
    try:
        limits = Limits(threads, parse_bytes(memory) if memory else 0,
                        parse_timedelta(time_limit) if time_limit else 0)
        amounts = {name: float(amount) for name, amount in (entry.split("=") for entry in resource or [])}
    except (ValueError, KeyError) as error:
        raise FerError(f"sweep: {error}; write limits as 4GiB and 90min, resources as GPU=1") from error
    table = sweeps.sweep(axes, data, store, sweeps.Cluster(scheduler, jobs, amounts, retries), limits,
                         search=Search(search, sampler, prune) if search else None)
    typer.echo(table.drop(columns="error").to_string(float_format="{:.3f}".format))
    failed = table[~table["status"].isin(["finished", "skipped", "pruned"])]
    for name, row in failed.iterrows():
        typer.echo(f"{row['status']}: {name}: {row['error']}", err=True)
    if len(failed):
        raise typer.Exit(1)


@app.command(epilog=_examples("fer report", "fer report epochs=10 --data fer2013.csv --profile full --out report"))
@_interruptible()
def report(settings: Settings = None, data: Data = "",
           profile: Annotated[str, typer.Option(help="quick or full.")] = "quick",
           out: Annotated[Path, typer.Option(help="Folder to write.")] = Path("report"),
           notebooks: Annotated[Path | None, typer.Option(help="Folder of the notebooks.")] = None,
           store: Store = None) -> None:
    """Execute all notebooks and write a site of them; KEY=VALUE sets a notebook parameter."""
    with needs_extra("report"):
        from .report.site import report as write_report

    results = write_report(out, data, profile, notebooks, store, _single(settings))
    for result in results:
        typer.echo(f"{result.seconds:6.0f} s  {result.path.stem}  {result.error or 'done'}")
    typer.echo(f"Report: {(out / 'index.html').resolve()}")
    if any(result.error for result in results):
        raise typer.Exit(1)


def _single(pairs: list[str] | None) -> dict[str, Any]:
    """`read_settings` where each has one value."""
    settings = read_settings(pairs or [])
    if several := [key for key, values in settings.items() if len(values) != 1]:
        raise FerError(f"{several[0]}: one value expected, got {len(settings[several[0]])}; several are for fer sweep")
    return {key: value for key, (value,) in settings.items()}


def main() -> None:
    """Entry point of ``fer``: exit code 0 done, 1 found errors or failed, 2 could not be understood or read."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal or a pipe may know fewer letters than we write
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except FerError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)
