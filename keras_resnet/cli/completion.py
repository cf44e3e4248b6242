"""Completion in a shell: verbs, studies, their flags, and the values that these can have."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
from collections.abc import Callable, Collection

from keras_resnet.cli.flags import PRINT_FLAGS
from keras_resnet.cli.study import STUDIES

# The last word in front of the cursor that is a flag decides which values there are.
_SCRIPT = """_keras_resnet() {
  local i=$COMP_CWORD verb="${COMP_WORDS[1]}" first=2 flag= words= values=
  if [ "$verb" = study ] && [ "$i" -gt 2 ]; then verb="study-${COMP_WORDS[2]}" first=3; fi
  while [ "$((i -= 1))" -ge "$first" ]; do
    case "${COMP_WORDS[i]}" in -*) flag="${COMP_WORDS[i]}"; break ;; esac
  done
  case "$verb" in
FLAGS
  esac
  case "$verb $flag" in
VALUES
  esac
  if [ -n "$flag" ] && [ -n "$values" ] && [ "$i" -eq "$((COMP_CWORD - 1))" ]; then words=; fi
  if [ "$COMP_CWORD" -eq 1 ]; then words='VERBS --help --version' values=; fi
  COMPREPLY=($(compgen -W "$words $values" -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _keras_resnet keras-resnet"""


def completion_script(shell: str, verbs: Collection[str]) -> str:
    """Returns the script that "bash" or "zsh" is to evaluate."""
    flags: dict[str, dict[str, list[str]]] = {"study": {"": list(STUDIES), "--help": []}}
    for verb in verbs:
        if verb != "study":
            module = importlib.import_module(f"keras_resnet.cli.{verb.replace('-', '_')}")
            flags[verb] = _flags(module.main)
    flags |= {f"study-{name}": _flags(study) for name, study in STUDIES.items()}
    words, values = [], []
    for verb, own in flags.items():
        words.append(f"    {verb}) words='{' '.join(filter(None, own))}' ;;")
        for flag, choices in own.items():
            if choices:
                values.append(f"    '{verb} {flag}') values='{' '.join(choices)}' ;;")
    script = _SCRIPT.replace("FLAGS", "\n".join(words)).replace("VALUES", "\n".join(values))
    before = "autoload -U +X bashcompinit && bashcompinit\n" if shell == "zsh" else ""
    return before + script.replace("VERBS", " ".join(verbs))


def _flags(main: Callable[..., None]) -> dict[str, list[str]]:
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        main([PRINT_FLAGS])
    return json.loads(out.getvalue())
