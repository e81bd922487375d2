"""Which PriorityClass a job's word (high, medium, low) stands for."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from helpers.domain.estate.base import DnsSubdomain, EstateModel

PriorityWord = Literal["high", "medium", "low"]
WORDS: tuple[PriorityWord, ...] = ("high", "medium", "low")


class JobPriorities(EstateModel):
    """Names of entries under the estate's `priority_classes`, so that jobs and tenants stand in one order."""

    high: DnsSubdomain = Field(default="gpu-high", description="The class of jobs with priority high.")
    medium: DnsSubdomain = Field(default="gpu-medium", description="The class of jobs with priority medium.")
    low: DnsSubdomain = Field(default="gpu-low", description="The class of jobs with priority low.")

    def class_of(self, word: PriorityWord) -> str:
        """The PriorityClass's name."""
        return {"high": self.high, "medium": self.medium, "low": self.low}[word]
