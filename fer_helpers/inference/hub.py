"""Networks shared on the Hugging Face Hub, with the extra "hub". Nothing else here sends anything away."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from typing import Any

from ..files import FerError, needs_extra
from ..training.runs import Run
from .pretrained import HUB, NAME, Pretrained, load_pretrained, save_network


def push(run: Run, repo: str, private: bool = True) -> str:
    """Upload a finished run's weights (float16), configuration, metrics and model card; no image, no prediction.

    The token is the one of ``hf auth login`` or of ``HF_TOKEN``; ``HF_ENDPOINT`` names another hub than the public one.

    Parameters
    ----------
    repo : "user/name"; made if it is not there yet.
    private : whether a new repository is seen by its owner only.

    Returns
    -------
    Address of the repository.

    Raises
    ------
    FerError
        If the extra is not installed, the hub refuses or cannot be reached, or as `pretrained.save_network`.
    """
    hub = _hub()
    with tempfile.TemporaryDirectory() as folder:
        card = save_network(run, folder)
        about = hub.ModelCardData(license="mit", library_name="fer_helpers", pipeline_tag="image-classification",
                                  tags=["facial-expression-recognition", run.config.arch])
        card.write_text(f"---\n{about.to_yaml()}\n---\n\n{card.read_text(encoding='utf-8')}", encoding="utf-8")
        with _explained(repo):
            address = _api().create_repo(repo, private=private, exist_ok=True)
            _api().upload_folder(repo_id=address.repo_id, folder_path=folder, commit_message=f"fer push {run.name}")
    return str(address)


def pull(repo: str) -> Pretrained:
    """The network that `push` uploaded to "user/name", or to "user/name@revision"; what was fetched once is kept.

    Raises
    ------
    FerError
        If the extra is not installed, or there is no such network.
    """
    name, _, revision = repo.partition("@")
    _hub()
    with _explained(repo):
        folder = _api().snapshot_download(name, revision=revision or None,
                                          allow_patterns=[f"{NAME}.json", f"{NAME}.safetensors"])
    return load_pretrained(folder, f"choose a repository that `fer push` wrote, not {HUB}{repo}")


def _api() -> Any:
    return _hub().HfApi(endpoint=os.environ.get("HF_ENDPOINT"), library_name="fer_helpers")


def _hub() -> Any:
    with needs_extra("hub"):
        import huggingface_hub
    return huggingface_hub


@contextlib.contextmanager
def _explained(repo: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # of the hub or of its HTTP library, which is another one every few versions
        said = " ".join(str(error).split())
        raise FerError(f"{HUB}{repo}: {said}; check the name, `hf auth login` and the network") from error
