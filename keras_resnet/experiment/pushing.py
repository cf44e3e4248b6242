"""Finished runs on the Hugging Face hub, each with its card. Needs the extra `weights`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from keras_resnet.experiment.card import front_matter
from keras_resnet.experiment.workdir import CONFIG, read_object
from keras_resnet.export import HubLayer
from keras_resnet.network import remembered
from keras_resnet.utils import checks
from keras_resnet.utils.private import nested_layers
from keras_resnet.version import __version__
from keras_resnet.weights.beside import LABELS, PREPROCESSING
from keras_resnet.weights.hugging_face import OWN, SCHEME, expect_repository
from keras_resnet.weights.saving import load_model

# Of the folder of a run, under their names there; the card becomes README.md.
_FILES = ("model.keras", LABELS, "metrics.json")
# Beside models that cannot hold it themselves.
_IF_THERE = (PREPROCESSING,)
_CARD = "model_card.md"


def push(
    workdir: str | Path,
    address: str,
    *,
    license: str,
    private: bool = False,
    tags: Sequence[str] = (),
    message: str = "Add model",
) -> str:
    """Uploads the model of a finished run with its card, for `load_model(address)`.

    The card is that of the run, behind a front matter in YAML that the hub reads: license, library,
    pipeline tag, and the measured figures with their data set. The repository is created if there
    is none. Everything goes there in one commit, so that nobody finds a part of it.

    Args:
        workdir: Folder of the run.
        address: Where to put it: "hf://owner/name".
        license: License of the weights, as the hub names it, such as "apache-2.0". That depends on
            the images too, so there is no default.
        private: Whether a new repository is visible to its owners only.
        tags: Further tags, beside those of the library and the network.
        message: Message of the commit.

    Returns:
        The address with the commit, "hf://owner/name@commit".

    Raises:
        ValueError: If an argument is wrong, `workdir` has no finished run, or the model needs the
            module of a `HubLayer`, which is not in its file.
        ImportError: If `huggingface_hub` is not installed.
        OSError: If the hub cannot be reached, or refuses the upload. A token is taken from
            `HF_TOKEN`, or from where `hf auth login` puts it.
    """
    repository = expect_repository("address", address)
    workdir = Path(workdir)
    if not license or not isinstance(license, str):
        raise ValueError(
            "`license` must be the name of one on the hub, such as 'apache-2.0'. "
            f"Received: license={license!r}"
        )
    missing = [name for name in (*_FILES, _CARD, CONFIG) if not (workdir / name).is_file()]
    if missing:
        raise ValueError(
            f"`workdir` must hold a finished run. Received: workdir={str(workdir)!r} without "
            f"{', '.join(missing)}"
        )
    hub = checks.import_extra("huggingface_hub", "Uploads to the Hugging Face hub", "weights")
    model = load_model(workdir / "model.keras")
    if any(isinstance(layer, HubLayer) for layer in nested_layers(model)):
        raise ValueError(
            "`workdir` must hold a model that is whole in its file, without the module of a "
            f"HubLayer. Received: workdir={str(workdir)!r}"
        )
    network = remembered(model)
    architecture = model.name if network is None else network.architecture.name
    settings, metrics = read_object(workdir / CONFIG), read_object(workdir / "metrics.json")
    for file, content, key in ((CONFIG, settings, "dataset"), ("metrics.json", metrics, "split")):
        if key not in content:
            raise ValueError(
                f"`workdir` must hold a whole {file}, with {key!r}. "
                f"Received: workdir={str(workdir)!r}"
            )
    head = front_matter(
        repository.partition("/")[2],
        str(settings["dataset"]),
        metrics,
        license=license,
        tags=("keras-resnet", architecture.lower(), *tags),
    )
    about = {OWN: {"version": __version__, "network": architecture}}
    contents = {
        "README.md": f"---\n{head}\n---\n\n{_card(workdir, address)}".encode(),
        "config.json": f"{json.dumps(about, indent=2)}\n".encode(),
        **{name: str(workdir / name) for name in _FILES},
        **{name: str(workdir / name) for name in _IF_THERE if (workdir / name).is_file()},
    }
    added = [
        hub.CommitOperationAdd(path_in_repo=name, path_or_fileobj=content)
        for name, content in contents.items()
    ]
    try:
        api = hub.HfApi()
        api.create_repo(repository, private=private, exist_ok=True)
        commit = api.create_commit(repository, added, commit_message=message)
    except Exception as error:  # Some are those of its HTTP client.
        raise OSError(
            f"{repository} cannot be written on the hub ({checks.first_line(error)})"
        ) from error
    return f"{SCHEME}{repository}@{commit.oid}"


def _card(workdir: Path, address: str) -> str:
    text = (workdir / _CARD).read_text(encoding="utf-8")
    return f"""{text}
## From the hub

```python
import keras_resnet

model = keras_resnet.load_model("{address}")
```
"""
