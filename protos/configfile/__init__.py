"""Reads a configuration file so that all that is wrong with it can be told at once, by file, line and key.

Both sides have a configuration and share nothing but this package, so the way to read one lives here, beside the
contract. It knows nothing of what a configuration means, and needs pydantic and PyYAML only.

    document = read(Path("server.yaml"))  # ConfigFileError: no file, or no YAML
    settings = validated(Settings, document.value, (), document)  # None: the document has complaints
    if settings is None or document.problems:
        raise ConfigFileError(*document.problem_lines())

A line reads `server.yaml:12: rewards.brevity.length.unti: unknown key; did you mean 'unit'? known: target, unit`.
"""

from protos.configfile.document import ConfigFileError, Document, Mark, Place, Problem, dotted
from protos.configfile.reader import parse, read
from protos.configfile.words import did_you_mean, found, proposals, unknown, validated

__all__ = [
    "ConfigFileError",
    "Document",
    "Mark",
    "Place",
    "Problem",
    "did_you_mean",
    "dotted",
    "found",
    "parse",
    "proposals",
    "read",
    "unknown",
    "validated",
]
