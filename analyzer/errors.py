"""What a person is told when something is wrong: what, where, what to do, and the exit code that says which."""

from __future__ import annotations

from typing import ClassVar


class AnalyzerError(Exception):
    """Base of all errors meant for the user. `hint` says what to do next."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}: {self.hint}" if self.hint else self.message


class UsageError(AnalyzerError):
    """An option or an argument names nothing that there is."""

    exit_code = 2


class GrammarError(AnalyzerError):
    """A grammar file breaks a law of the house."""

    exit_code = 70


class InputError(AnalyzerError):
    """Nothing could be read from what was given."""

    exit_code = 66


class AccountingError(AnalyzerError):
    """Something of an input became of nothing: the program is wrong."""

    exit_code = 1


class OutputError(AnalyzerError):
    """The dataset could not be written."""

    exit_code = 73


class BusyError(AnalyzerError):
    """Another process is writing this dataset."""

    exit_code = 75


class DatasetError(AnalyzerError):
    """There is no dataset where one was named, or it is not one of ours."""

    exit_code = 65


class UnknownConversation(AnalyzerError):
    """No conversation of the dataset has this id."""

    exit_code = 4
