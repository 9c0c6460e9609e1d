"""The head of a page of results, from the docstring of the benchmark that made it."""

from __future__ import annotations


def page_head(title: str, docstring: str | None) -> list[str]:
    """Lines of a title, the commands and the text of a docstring (summary, commands, text).

    Parameters
    ----------
    title : str
    docstring : str or None
        Of the module, its three parts apart by empty lines.

    Returns
    -------
    list of str
    """
    _, commands, text = (docstring or "").split("\n\n")
    listed = (line.strip() for line in commands.splitlines())
    return [f"# {title}", "", "```bash", *listed, "```", "", text.strip(), ""]
