"""The `keras-resnet` command, and what has to be set before TensorFlow is imported.

It lies beside the package, so that --version takes no time, Ctrl-C and SIGTERM are one line while
Python still imports, and `import keras_resnet` knows that its flags are to be checked first, as
`keras_resnet.utils.deferral` says. Recipes import this module first.
"""

import faulthandler
import os
import signal
import sys

if sys.stderr is None:
    # It is closed: its number would be that of the next file, and its lines standard output's.
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115
if not faulthandler.is_enabled():
    # A crash in native code would end the process without a line.
    faulthandler.enable(2, all_threads=False)


def end_at_once(number, frame):
    """Ends the process with one line, as a handler of a signal."""
    os.write(2, b"interrupted\n" if number == signal.SIGINT else b"terminated\n")
    os._exit(128 + number)


# Around `keras_resnet.cli.run`: an exception could be lost in an import, or end in a traceback.
for _signal, _default in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGTERM, signal.SIG_DFL),
):
    if signal.getsignal(_signal) is _default:
        signal.signal(_signal, end_at_once)

import atexit  # noqa: E402, interruptible meanwhile
import importlib  # noqa: E402
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


if signal.getsignal(signal.SIGINT) is end_at_once:
    # At its very end Python would let the signal kill the process, which has done all by then.
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
# On some processors TensorFlow leaves its faster CPU kernels off.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
# Everywhere it reports what it did not find. Errors are always shown.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "0" if "--verbose" in sys.argv else "2")


def _run(verb: str, *words: str) -> None:
    cli = importlib.import_module("keras_resnet.cli")
    module = importlib.import_module(f"keras_resnet.cli.{verb.replace('-', '_')}")
    cli.run(module.main, list(words), prog=f"keras-resnet {verb}")


def _refuse(name: str, allowed: str, given: str) -> None:
    print(f"error: `{name}` must be {allowed}. Received: {given!r}", file=sys.stderr)
    sys.exit(2)


def main() -> None:
    """Runs the verb that the command line names, with the words after it."""
    verb, *words = sys.argv[1:] or [""]
    if verb in VERBS:
        _run(verb, *words)
    elif verb in ("-h", "--help"):
        print("usage: keras-resnet VERB ...\n\nDeep residual learning for Keras 3.\n")
        print(*(f"  {name:12}{text}" for name, text in VERBS.items()), sep="\n")
        print("\nThe flags of a verb: keras-resnet VERB --help. The version: --version.")
        print('Completion in bash or zsh: eval "$(keras-resnet --print-completion bash)".')
    elif verb == "--print-completion":
        if words not in (["bash"], ["zsh"]):
            _refuse(verb, "bash or zsh", " ".join(words))
        completion = importlib.import_module("keras_resnet.cli.completion")
        print(completion.completion_script(*words, VERBS))
    elif verb == "--version":
        version = Path(__file__).with_name("keras_resnet") / "version.py"
        print("keras-resnet", runpy.run_path(str(version))["__version__"])
    else:
        _refuse("VERB", f"one of {', '.join(VERBS)}", verb)


if __name__ == "__main__":
    main()
