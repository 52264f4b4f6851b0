"""The command `adapruner`: the tools, installed. Every subcommand has its own --help."""

import os
import sys
from difflib import get_close_matches
from importlib import import_module

from . import __version__
from .garbage import without_garbage_collection

# subcommand: (module of commands, what it does). `selection` takes its subcommand as it is.
COMMANDS = {
    "look": ("look", "a first look at data without training: copies, leaks between lists, broken files, classes"),
    "prune": (
        "train_net",
        "learn which images a detector or classifier can do without: adapruner prune DATA --keep 0.8",
    ),
    "train": ("train_net", "train and evaluate, on everything or on a selection: adapruner train DATA --selection DIR"),
    "score": ("score", "select by one of the other methods (--list)"),
    "show": ("selection", "print a selection's ratio and classes"),
    "report": ("selection", "the page of a selection: what goes and why, to look at and correct"),
    "cut": ("selection", "a selection at another ratio, without training"),
    "random": ("selection", "select images at random, to compare with"),
    "export": ("selection", "list the kept images for another tool"),
    "pictures": ("selection", "draw kept and pruned images"),
    "injected": ("selection", "what became of defects that datasets/inject_label_errors.py has injected"),
    "compare": ("compare", "full, random and pruned training side by side, several seeds"),
    "demo": ("demo", "prune the embedded demo set, look at its page, and train on what is left"),
}


def usage() -> str:
    lines = [f"  {name:10}{text}" for name, (_, text) in COMMANDS.items()]
    return "usage: adapruner COMMAND ...\n\n" + "\n".join(lines) + "\n\nadapruner COMMAND --help shows the options."


def main(arguments: list[str] | None = None) -> None:
    """Runs `adapruner COMMAND ...`; the arguments are the command line's unless given."""
    command, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if command in ("-h", "--help"):
        print(usage())
    elif command == "--version":
        print(__version__)
    elif command not in COMMANDS:
        near = get_close_matches(command, COMMANDS, 1)
        meant = f"did you mean {near[0]}?" if near else f"there are {', '.join(COMMANDS)}"
        raise SystemExit(f"adapruner: error: there is no command {command!r}; {meant}")
    else:
        if not sys.stderr.isatty():
            os.environ.setdefault("TQDM_DISABLE", "1")  # bars of libraries would fill a file with carriage returns
        module, _ = COMMANDS[command]
        sys.argv = ["adapruner", command, *rest] if module == "selection" else [f"adapruner {command}", *rest]
        with without_garbage_collection():
            run = import_module(f".commands.{module}", __package__).main
        run(command) if module == "train_net" else run()


if __name__ == "__main__":
    main()
