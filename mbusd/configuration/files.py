"""Where the configuration file usually is, and the error of one that is wrong: known without loading any shapes."""

from pathlib import Path

USUAL_FILE = Path("/etc/mbusd/config.yaml")


class FileError(Exception):
    """Everything that is wrong with a file: one line a problem, with file, line and YAML path."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
