"""The command `adapruner`: the tools, installed. Every subcommand has its own --help."""

import sys
from importlib import import_module

from . import __version__

# subcommand: (module of commands, what it does). `selection` takes its subcommand as it is.
COMMANDS = {
    "prune": ("train_net", "learn which images a detector or classifier can do without, by a config of configs/"),
    "train": ("train_net", "train and evaluate, on everything or on a selection (--selection DIR)"),
    "score": ("score", "select by one of the other methods (--list)"),
    "show": ("selection", "print a selection's ratio and classes"),
    "report": ("selection", "the page of a selection: what goes and why, to look at and correct"),
    "cut": ("selection", "a selection at another ratio, without training"),
    "random": ("selection", "select images at random, to compare with"),
    "export": ("selection", "list the kept images for another tool"),
    "pictures": ("selection", "draw kept and pruned images"),
    "injected": ("selection", "what became of defects that datasets/inject_label_errors.py has injected"),
    "compare": ("compare", "full, random and pruned training side by side, several seeds"),
}
# At the end of the command line, so that one config serves both.
SETTINGS = {"prune": ["ADAPRUNER.ENABLED", "True"], "train": ["ADAPRUNER.ENABLED", "False"]}


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
        raise SystemExit(f"adapruner: error: there is no command {command!r}\n{usage()}")
    else:
        module, _ = COMMANDS[command]
        given = {word.split("=")[0] for word in rest}
        if module == "train_net" and not given & {"--config-file", "-h", "--help"}:
            raise SystemExit(
                f"adapruner {command}: error: --config-file is missing; configs/ has one for each model, such as "
                "configs/voc/prune_yolov3_tiny_R18.yaml"
            )
        if module == "selection":
            sys.argv = ["adapruner", command, *rest]
        else:
            sys.argv = [f"adapruner {command}", *rest, *SETTINGS.get(command, [])]
        import_module(f".commands.{module}", __package__).main()


if __name__ == "__main__":
    main()
