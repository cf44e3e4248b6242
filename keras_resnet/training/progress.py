"""Progress on the terminal: a bar where there is one, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Mapping

import keras

from keras_resnet.utils.terminal import format_seconds, start_bar


class Progress(keras.callbacks.Callback):
    """Shows steps, speed, time left, loss, metrics and learning rate while `Trainer.fit` runs.

    Draws a bar with `rich` when standard output is a terminal and rich is installed, and prints a
    line for each logging interval otherwise.
    """

    def on_train_begin(self, logs=None) -> None:
        self._bar = start_bar(self.params["last_step"], self.params["first_step"])

    def on_log(self, step: int, logs: Mapping[str, float]) -> None:
        status = status_line(step, self.params["last_step"], self.params["batch_size"], logs)
        if self._bar is None:
            print(status, flush=True)
        else:
            self._bar.update(self._bar.task_ids[0], completed=step, status=status)

    def on_epoch_end(self, epoch: int, logs=None) -> None:
        values = {name: value for name, value in (logs or {}).items() if name.startswith("val_")}
        if values:
            line = f"epoch {epoch + 1}/{self.params['epochs']}  {_values(values)}"
            if self._bar is None:
                print(line, flush=True)
            else:
                self._bar.console.print(line, highlight=False)

    def on_train_end(self, logs=None) -> None:
        if self._bar is not None:
            self._bar.stop()


def status_line(step: int, last_step: int, batch_size: int, logs: Mapping[str, float]) -> str:
    """One line about the state of a run.

    Args:
        step: Steps done.
        last_step: Steps after which the run ends.
        batch_size: Global batch.
        logs: What `Trainer` reads at a logging interval.
    """
    parts = [f"step {step}/{last_step}"]
    speed = logs.get("images_per_second")
    if speed:
        seconds = (last_step - step) * batch_size / speed
        parts.append(f"{speed:.0f} images/s")
        if "input_wait" in logs:
            parts.append(f"{100 * logs['input_wait']:.0f} % waiting for input")
        parts.append(f"{format_seconds(seconds)} left")
    shown = {k: v for k, v in logs.items() if k not in ("images_per_second", "input_wait")}
    return "  ".join([*parts, _values(shown)])


def _values(logs: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in logs.items())
