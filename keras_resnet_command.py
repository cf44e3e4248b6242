"""The `keras-resnet` command, and what has to be set before TensorFlow is imported.

It lies beside the package because `import keras_resnet` imports TensorFlow, which takes seconds:
--help does without, and Ctrl-C is one line meanwhile, too. Recipes import this module first.
"""

import os
import signal
import sys


def _end(number, frame):
    os.write(2, b"interrupted\n")
    os._exit(130)


# Around `keras_resnet.cli.run`: an exception could be lost in an import, or end in a traceback.
INTERRUPTIBLE = signal.getsignal(signal.SIGINT) is signal.default_int_handler
if INTERRUPTIBLE:
    signal.signal(signal.SIGINT, _end)

import atexit  # noqa: E402, interruptible meanwhile
import importlib  # noqa: E402
import re  # noqa: E402
import runpy  # noqa: E402
from pathlib import Path  # noqa: E402

# The modules of `keras_resnet.cli`, and what they do.
VERBS = {
    "train": "Trains a network with any settings",
    "evaluate": "Measures trained models of any format by the paper's test protocols",
    "predict": "Classifies image files with a trained model",
    "embed": "Writes the feature vectors of the images in a folder to a table",
    "serve": "Serves a trained model over HTTP: encoded images in, their best classes out",
    "export": "Writes a trained model for inference: SavedModel, LiteRT (.tflite) or ONNX",
    "quantize": "Fine-tunes a trained network as one of 8-bit integers, and writes its files",
    "study": "Repeats studies of degradation, shortcuts, depth, responses, transfer and slimming",
    "tune": "Searches for a network and its optimizer's settings, and trains the best one fully",
    "convert": "Converts weights between Keras, PyTorch, safetensors and the Hugging Face hub",
    "summary": "Describes a network: options, cost, and what its weights want done to an image",
    "models": "Lists the networks: default input, parameters, multiply-adds, and published weights",
    "reproduce": "Sets own runs beside the paper's tables, with a verdict on each of their claims",
    "compare": "Compares what networks cost, and how accurate they are",
    "benchmark": "Times a network on this machine, in every form that it can be run in",
    "responses": "Measures how strongly the layers of trained networks respond",
    "check-data": "Reads all images of a folder, and lists what would stop or mislead training",
    "doctor": "Says what is installed and which devices there are, and tries a step of training",
}


# Texts of `VERB --help`, which the verbs, that import TensorFlow, made before;
# `python -m tests.snapshot.make help` does.
HELP = Path(__file__).with_name("keras_resnet") / "cli" / "help"


if INTERRUPTIBLE:
    # At its very end Python would let the signal kill the process, which has done all by then.
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
# On some processors TensorFlow leaves its faster CPU kernels off.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
# Everywhere it reports what it did not find.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def _help(verb: str, word: str = "") -> str | None:
    """Returns the stored help of a verb, or of the study that the word after it names."""
    for name in (f"{verb}-{word}", verb):
        path = HELP / f"{name}.txt"
        if path.is_file():
            return path.read_text("utf-8")
    return None


def _completion(shell: str) -> str:
    """Returns a script that completes verbs, their flags, and names of files."""
    cases = []
    for verb in VERBS:
        flags = sorted(set(re.findall(r"(?<!\S)--[a-z][\w-]*\w", _help(verb) or "")))
        cases.append(f"    {verb}) words='{' '.join(flags)}' ;;")
    lines = [
        *(["autoload -U +X bashcompinit && bashcompinit"] if shell == "zsh" else []),
        "_keras_resnet() {",
        "  local words",
        '  case "${COMP_WORDS[1]}" in',
        *cases,
        "  esac",
        f"  [ \"$COMP_CWORD\" -eq 1 ] && words='{' '.join(VERBS)} --help --version'",
        '  COMPREPLY=($(compgen -W "$words" -- "${COMP_WORDS[COMP_CWORD]}"))',
        "}",
        "complete -o default -F _keras_resnet keras-resnet",
    ]
    return "\n".join(lines)


def main() -> None:
    """Runs the verb that the command line names, with the words after it."""
    verb, *words = sys.argv[1:] or [""]
    asks = {"-h", "--help"}.intersection(words)
    if verb in VERBS and asks and (text := _help(verb, *words[:1])):
        print(text, end="")
    elif verb in VERBS:
        cli = importlib.import_module("keras_resnet.cli")
        module = importlib.import_module(f"keras_resnet.cli.{verb.replace('-', '_')}")
        cli.run(module.main, words, prog=f"keras-resnet {verb}")
    elif verb in ("-h", "--help"):
        print("usage: keras-resnet VERB ...\n\nDeep residual learning for Keras 3.\n")
        print(*(f"  {name:12}{text}" for name, text in VERBS.items()), sep="\n")
        print("\nThe flags of a verb: keras-resnet VERB --help. The version: --version.")
        print('Completion in bash or zsh: eval "$(keras-resnet --print-completion bash)".')
    elif verb == "--print-completion" and words in (["bash"], ["zsh"]):
        print(_completion(*words))
    elif verb == "--version":
        version = Path(__file__).with_name("keras_resnet") / "version.py"
        print("keras-resnet", runpy.run_path(str(version))["__version__"])
    else:
        names = ", ".join(VERBS)
        print(f"error: `VERB` must be one of {names}. Received: {verb!r}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
