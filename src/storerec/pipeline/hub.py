"""Bundles on the Hugging Face hub: a folder with a model card, pushed and fetched by the hub's own client."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storerec._version import __version__
from storerec.bundle import MANIFEST
from storerec.codes import CodeReport
from storerec.config import RunOptions
from storerec.errors import BundleError
from storerec.storage import atomic

if TYPE_CHECKING:
    from storerec.evaluation import Evaluation
    from storerec.pipeline.store import STORE

CARD = "README.md"

_USE = """```python
from storerec import STORE

store = STORE.from_pretrained("{name}")
for item in store.recommend(["{item}"], k=10):
    print(item.item_id, item.title, item.score)
```"""


class Pretrained:
    """What a STORE does with the hub."""

    @classmethod
    def from_pretrained(
        cls,
        name: str,
        *,
        revision: str | None = None,
        token: str | None = None,
        local_files_only: bool = False,
        backbone: str | None = None,
        options: RunOptions | None = None,
    ) -> STORE:
        """Load a bundle from a folder, or from the Hugging Face hub by its id.

        Parameters
        ----------
        revision, token: of the hub.
        local_files_only: take what was fetched before, and ask no network; as does ``HF_HUB_OFFLINE=1``.
        backbone, options: as in :meth:`STORE.load`.

        Raises
        ------
        BundleError: there is no such folder or model, the hub cannot be reached, or as :meth:`STORE.load`.
        """
        from storerec.pipeline.store import STORE

        folder = fetched(name, revision=revision, token=token, offline=local_files_only)
        return STORE.load(folder, backbone=backbone, options=options)

    def push_to_hub(
        self: Any,
        name: str,
        *,
        token: str | None = None,
        private: bool | None = None,
        evaluation: Evaluation | None = None,
        message: str = "A bundle of storerec",
    ) -> str:
        """Upload the bundle with a generated model card as the hub's model ``name``; gives the url of the commit.

        The model is made where it is not there. The items' texts go with it, users' histories do not. ``evaluation`` is
        printed on the card.

        Raises
        ------
        BundleError: the hub cannot be reached, or refuses.
        """
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

        with tempfile.TemporaryDirectory(prefix="storerec-hub-") as temporary:
            folder = Path(temporary) / "bundle"
            save_pretrained(self, folder, name=name, evaluation=evaluation)
            client = HfApi(token=token, library_name="storerec", library_version=__version__)
            try:
                client.create_repo(name, private=private, exist_ok=True)
                return str(client.upload_folder(repo_id=name, folder_path=folder, commit_message=message))
            except (HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, OSError) as error:
                raise BundleError(f"'{name}' could not be pushed to the hub: {_first_line(error)}") from None


def save_pretrained(store: STORE, folder: Path, *, name: str, evaluation: Evaluation | None = None) -> None:
    """Write the bundle and a model card (README.md) into ``folder``; raises as :meth:`STORE.save`."""
    store.save(folder)
    with atomic(folder / CARD) as temporary:
        temporary.write_text(model_card(store, name=name, evaluation=evaluation), encoding="utf-8")


def fetched(name: str, *, revision: str | None, token: str | None, offline: bool) -> Path:
    """Where the bundle ``name`` is: that folder, if there is one, else the hub's model of that name in its cache.

    Raises
    ------
    BundleError: there is neither, the hub cannot be reached, or what it holds is no bundle.
    """
    if Path(name).expanduser().is_dir():
        return Path(name).expanduser()
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        # a bundle's own kinds of files only: nothing else of a repository is read, so nothing else is fetched
        folder = Path(
            snapshot_download(
                name,
                revision=revision,
                token=token,
                local_files_only=offline,
                allow_patterns=["*.json", "*.safetensors", CARD],
            )
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise BundleError(
            f"'{name}' is no folder here, and could not be had from the hub: {_first_line(error)}"
        ) from None
    if not (folder / MANIFEST).is_file():
        raise BundleError(f"'{name}' on the hub is no storerec bundle (it has no {MANIFEST})")
    return folder


def model_card(store: STORE, *, name: str, evaluation: Evaluation | None = None) -> str:
    """What the bundle is, what it was trained on and how well it did, as the hub's Markdown."""
    config, report, catalogue = store.config, store.code_report(), store.catalogue
    backbone = config.backbone.name
    head = ["---", "library_name: storerec", "pipeline_tag: text-generation"]
    if "/" in backbone and not Path(backbone).exists():  # a hub id, not a folder of one machine
        head.append(f"base_model: {backbone}")
    head += ["tags:", "- recommender-system", "- semantic-ids", "- generative-recommendation", "---"]
    tuned = "LoRA" if config.recommender.tuning == "lora" else config.recommender.tuning
    told = [
        f"# {name}",
        "A recommender made with [storerec](https://pypi.org/project/storerec) "
        f"{__version__}: one language model turns items' texts into semantic IDs and generates the next item's.",
        "## Use",
        _USE.format(name=name, item=catalogue.ids[0]),
        "New items are recommendable from their text: `store.add_items(...)`.",
        "## What is in it",
        "\n".join(
            [
                f"- {len(catalogue):,} items with their texts ({', '.join(catalogue.attributes)}): "
                "**whoever has this model has these texts**",
                f"- language model: `{Path(backbone).name if Path(backbone).exists() else backbone}` "
                "(not in this repository), with the weights trained on it",
                f"- recommender: {config.recommender.layers or 'all'} layers, {tuned}; histories of at most "
                f"{config.recommender.max_history} items",
                f"- a yes/no scorer: {'yes' if store.scorer is not None else 'no'}",
                f"- codes: {_codes(report)}",
                f"- seed {store.options.seed}; users' histories are not in it",
            ]
        ),
        "## How well it does",
        _figures(evaluation),
        "## Limits",
        "It learnt from texts and the order of events of one catalogue's users, and repeats what is in them, their "
        "biases included. Measure it on your own users, beside popularity and a Markov chain (`storerec evaluate`), "
        "before use.",
    ]
    return "\n".join(head) + "\n\n" + "\n\n".join(told) + "\n"


def _codes(report: CodeReport) -> str:
    used = ", ".join(f"{one.used} of {one.size}" for one in report.positions)
    return f"{used} used by position; {report.colliding_share:.1%} of the items share all codes with another"


def _figures(evaluation: Evaluation | None) -> str:
    if evaluation is None:
        return "Not measured by whoever pushed it."
    names = [name for name in evaluation.systems[evaluation.reference].item_level if name.endswith("@10")]
    lines = [" | ".join(["system", *names]), " | ".join(["---"] * (1 + len(names)))]
    for system, result in evaluation.systems.items():
        cells = [f"{m.value:.4f} [{m.low:.4f}, {m.high:.4f}]" for m in (result.item_level[name] for name in names)]
        lines.append(" | ".join([system, *cells]))
    note = (
        f"{evaluation.users:,} test users, all {evaluation.n_items:,} items ranked, 95% bootstrap intervals over users."
    )
    return "\n".join(f"| {line} |" for line in lines) + "\n\n" + note


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
