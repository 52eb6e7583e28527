"""How the documentation is built: `make docs`."""

from __future__ import annotations

import re
import sys
from typing import Any

import click
from docutils import nodes
from docutils.parsers.rst import Directive

import latalign
from latalign.cli import main

project = "latalign"
author = "The latalign developers"
project_copyright = author
version = release = latalign.__version__

extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc", "sphinx.ext.autosummary"]
exclude_patterns = ["_build", "reproduction/*.md"]
templates_path = ["_templates"]
default_role = "py:obj"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"latalign {version}"
html_copy_source = False

autodoc_typehints = "none"  # the tables of a docstring say what each parameter is
autodoc_member_order = "bysource"
numpydoc_show_class_members = False  # the class template lists them


class CommandHelp(Directive):
    """What ``latalign COMMAND --help`` prints, so that the page cannot differ from the program."""

    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the help as a literal block."""
        command: click.Command = main
        context = main.make_context("latalign", [], resilient_parsing=True, terminal_width=90)
        if self.arguments:
            name = self.arguments[0]
            command = main.commands[name]
            context = command.make_context(
                name, [], parent=context, resilient_parsing=True, terminal_width=90
            )
        text = command.get_help(context)
        return [nodes.literal_block(text, text, language="text")]


def cite_module_references(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Give a docstring that cites its module's references a list of those: each page stands alone."""
    cited = {number for line in lines for number in re.findall(r"\[(\d+)\]_", line)}
    if cited and not any(line.lstrip().startswith(".. [") for line in lines):
        entries = re.split(r"(?m)^\.\. (?=\[\d+\])", sys.modules[obj.__module__].__doc__ or "")[1:]
        lines += ["", "References", "----------"]
        for entry in entries:
            if entry[1 : entry.index("]")] in cited:
                lines += f".. {entry.rstrip()}".splitlines()
        lines.append("")
    # An author's initial at the start of a line is no list that begins at Z.
    lines[:] = [re.sub(r"^(\s*(?:\.\. \[\d+\] )?[A-Z])\. (?=[A-Z])", r"\1\\. ", line) for line in lines]


def skip_what_others_document(
    app: Any, what: str, name: str, obj: Any, skip: bool, options: Any
) -> bool | None:
    """Leave out what scikit-learn and PyTorch give every class of theirs."""
    module = getattr(obj, "__module__", None) or ""
    return True if module.partition(".")[0] in ("sklearn", "torch") else None


def setup(app: Any) -> None:
    """Connect the above; the references before numpydoc reads the docstring."""
    app.add_directive("command-help", CommandHelp)
    app.connect("autodoc-process-docstring", cite_module_references, priority=100)
    app.connect("autodoc-skip-member", skip_what_others_document)
