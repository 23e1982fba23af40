"""The papers specialist: bibliographic records, a small search engine over them, citations."""

from __future__ import annotations

import functools
import json
import math
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.question import DATA, Answer, Question, QuestionError, text, whole

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["CAPABILITIES", "Index", "Paper", "answer", "cite", "load", "words"]

CAPABILITIES = ["academic citations", "bibliographic search", "papers by author, year or DOI"]

_WEIGHTS = {"title": 3, "authors": 2, "field": 1, "venue": 1, "year": 1}
_COMMON = frozenset(
    word
    for row in (
        "a an and are as at by for from how in into is it",
        "its of on or the to what who with",
    )
    for word in row.split()
)


@dataclass(frozen=True)
class Paper:
    """One bibliographic record.

    Attributes:
        authors: Family name first; the last may be "others", as BibTeX writes it.
        venue: Where it appeared, with volume and pages as far as the source has them.
    """

    key: str
    title: str
    authors: tuple[str, ...]
    year: int
    venue: str
    field: str
    source: str
    doi: str = ""
    arxiv: str = ""

    def families(self) -> list[str]:
        """The family names of the authors that are named."""
        return [name.split(",")[0] for name in self.authors if name != "others"]


def load(path: Path = DATA / "papers.json") -> list[Paper]:
    """Read the records."""
    records = json.loads(path.read_text("utf-8"))
    return [Paper(**{**record, "authors": tuple(record["authors"])}) for record in records]


def words(phrase: str) -> list[str]:
    """The words a search compares: lower case, without accents, plural s or very common words."""
    plain = unicodedata.normalize("NFKD", phrase.casefold().replace("ø", "o").replace("ł", "l"))
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter))
    found = re.findall(r"[a-z0-9]+", plain)
    return [_singular(word) for word in found if word not in _COMMON]


class Index:
    """Full-text search with BM25 (Robertson and Walker, 1994), the usual constants.

    A word counts more the fewer papers have it, and more the more often a paper has it, but less
    and less so; long records do not win by length. Titles and authors weigh more than venues.
    """

    _SATURATION = 1.2
    _LENGTH = 0.75

    def __init__(self, papers: Sequence[Paper]) -> None:
        self._papers = papers
        self._counts = [_weighted_words(paper) for paper in papers]
        self._lengths = [counts.total() for counts in self._counts]
        self._average = sum(self._lengths) / max(len(papers), 1)
        self._having = Counter(word for counts in self._counts for word in counts)

    def search(self, query: str, limit: int) -> list[tuple[Paper, float]]:
        """The papers that fit `query` best, best first, with their scores."""
        wanted = set(words(query))
        scored = [
            (paper, self._score(wanted, counts, length))
            for paper, counts, length in zip(self._papers, self._counts, self._lengths, strict=True)
        ]
        hits = [(paper, score) for paper, score in scored if score > 0]
        hits.sort(key=lambda hit: (-hit[1], hit[0].key))
        return hits[:limit]

    def _score(self, wanted: set[str], counts: Counter[str], length: int) -> float:
        score = 0.0
        damping = self._SATURATION * (1 - self._LENGTH + self._LENGTH * length / self._average)
        for word in wanted & counts.keys():
            having = self._having[word]
            rarity = math.log(1 + (len(self._papers) - having + 0.5) / (having + 0.5))
            score += rarity * counts[word] * (self._SATURATION + 1) / (counts[word] + damping)
        return score


def cite(paper: Paper, style: str = "text") -> str:
    """`paper` as a citation.

    Args:
        paper: What to cite.
        style: "text" for one line to read, "bibtex" for an entry to paste.

    Raises:
        QuestionError: There is no such style.
    """
    if style == "bibtex":
        fields = {"title": paper.title, "author": " and ".join(paper.authors), "year": paper.year}
        fields |= {"howpublished": paper.venue}
        fields |= {"doi": paper.doi} if paper.doi else {}
        fields |= {"eprint": paper.arxiv, "archiveprefix": "arXiv"} if paper.arxiv else {}
        lines = [f"  {name} = {{{value}}}" for name, value in fields.items()]
        return "@misc{" + ",\n".join([paper.key, *lines]) + "\n}"
    if style != "text":
        raise QuestionError(f"no citation style {style!r}; there are 'text' and 'bibtex'")
    where = f" doi:{paper.doi}" if paper.doi else f" arXiv:{paper.arxiv}" if paper.arxiv else ""
    title = paper.title if paper.title.endswith("?") else f"{paper.title}."
    return f"{_names(paper)} ({paper.year}). {title} {paper.venue}.{where}"


def answer(question: Question) -> Answer:
    """Answer one question about papers.

    Args:
        question: One of `{"query": words}`, `{"author": name}`, `{"year": 2017}` (both together
            work too), `{"cite": key, DOI or title}`; optionally `"limit"` and `"style"`.

    Returns:
        `text`, one line for people, and the fields the question asked for.

    Raises:
        QuestionError: Nothing fits, or the question is none of these.
    """
    papers, index = _library()
    limit = whole(question, "limit", 3, most=20)
    style = text(question, "style") if "style" in question else "text"
    if "cite" in question:
        paper = _one(papers, text(question, "cite"))
        return {"text": cite(paper, style), "papers": [_summary(paper)]}
    if "query" in question:
        query = text(question, "query")
        found = [paper for paper, _ in index.search(query, limit)]
        total, what = len(found), f"matches {query!r}"
    elif "author" in question or "year" in question:
        every, what = _by_author_and_year(papers, question)
        found, total = every[:limit], len(every)
    else:
        raise QuestionError("ask for a 'query', an 'author', a 'year', or what to 'cite'")
    if not found:
        raise QuestionError(f"no paper {what}; there are {len(papers)} papers here")
    line = cite(found[0], style)
    if total > 1:
        line += f" (and {total - 1} more)"
    return {"text": line, "papers": [_summary(paper) for paper in found]}


@functools.cache
def _library() -> tuple[list[Paper], Index]:
    papers = load()
    return papers, Index(papers)


def _by_author_and_year(papers: list[Paper], question: Question) -> tuple[list[Paper], str]:
    found, parts = papers, []
    if "author" in question:
        name = text(question, "author")
        wanted = set(words(name))
        found = [paper for paper in found if _is_by(paper, wanted)]
        parts.append(f"is by {name}")
    if "year" in question:
        year = whole(question, "year", 0, most=9999)
        found = [paper for paper in found if paper.year == year]
        parts.append(f"is from {year}")
    return sorted(found, key=lambda paper: (paper.year, paper.key)), " and ".join(parts)


def _is_by(paper: Paper, wanted: set[str]) -> bool:
    return any(wanted and wanted <= set(words(name)) for name in paper.authors)


def _one(papers: list[Paper], wanted: str) -> Paper:
    plain = wanted.casefold().removeprefix("doi:").removeprefix("https://doi.org/")
    plain = plain.removeprefix("arxiv:")
    for paper in papers:
        if plain in {paper.key.casefold(), paper.doi.casefold(), paper.arxiv.casefold()} - {""}:
            return paper
    title = words(wanted)
    for paper in papers:
        if words(paper.title) == title:
            return paper
    raise QuestionError(f"no paper has the key, DOI, arXiv number or title {wanted!r}")


def _names(paper: Paper) -> str:
    families = paper.families()
    if len(families) > 3 or "others" in paper.authors:
        return f"{families[0]} et al."
    if len(families) == 1:
        return families[0]
    return ", ".join(families[:-1]) + " & " + families[-1]


def _summary(paper: Paper) -> Answer:
    ids = {"doi": paper.doi} if paper.doi else {}
    ids |= {"arxiv": paper.arxiv} if paper.arxiv else {}
    return {
        "key": paper.key,
        "title": paper.title,
        "authors": list(paper.authors),
        "year": paper.year,
        "venue": paper.venue,
        **ids,
    }


def _weighted_words(paper: Paper) -> Counter[str]:
    fields = {
        "title": paper.title,
        "authors": " ".join(paper.authors),
        "field": paper.field,
        "venue": paper.venue,
        "year": str(paper.year),
    }
    counted: Counter[str] = Counter()
    for field, content in fields.items():
        for word in words(content):
            counted[word] += _WEIGHTS[field]
    return counted


def _singular(word: str) -> str:
    plural = len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is"))
    return word[:-1] if plural else word
