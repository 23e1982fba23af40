"""The papers specialist of the demo: the records, the ranking, citations, errors."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from fleet.papers import Index, Paper, answer, cite, load, words
from fleet.question import reply_to

PAPERS = load()


def test_there_are_enough_records_of_several_fields() -> None:
    fields = Counter(paper.field for paper in PAPERS)
    assert len(PAPERS) >= 60
    assert min(fields[field] for field in ("ml", "systems", "networking", "physics")) >= 10


@pytest.mark.parametrize("paper", PAPERS, ids=lambda paper: paper.key)
def test_every_record_is_complete(paper: Paper) -> None:
    assert paper.title
    assert paper.families()
    assert paper.venue
    assert paper.source
    assert 1900 <= paper.year <= 2026
    assert re.fullmatch(r"[a-z]+\d{4}[a-z]*", paper.key)
    assert str(paper.year) in paper.key
    assert not paper.doi or re.fullmatch(r"10\.\d{4,}/\S+", paper.doi)
    assert not paper.arxiv or re.fullmatch(r"\d{4}\.\d{4,5}", paper.arxiv)
    assert words(paper.families()[0])[0].removeprefix("van") in paper.key


def test_keys_and_dois_are_unique() -> None:
    assert len({paper.key for paper in PAPERS}) == len(PAPERS)
    dois = [paper.doi for paper in PAPERS if paper.doi]
    assert len(set(dois)) == len(dois)


@pytest.mark.parametrize(
    ("phrase", "expected"),
    [
        ("Attention Is All You Need", ["attention", "all", "you", "need"]),
        ("Körper, Jürgen & Łukasz", ["korper", "jurgen", "lukasz"]),
        ("Networks of the network", ["network", "network"]),
        ("Analysis across this bus", ["analysis", "across", "this", "bus"]),
        ("", []),
    ],
)
def test_words(phrase: str, expected: list[str]) -> None:
    assert words(phrase) == expected


@pytest.mark.parametrize(
    ("query", "key"),
    [
        ("attention is all you need", "vaswani2017"),
        ("residual learning image recognition", "he2016"),
        ("understandable consensus", "ongaro2014"),
        ("clocks and ordering of events", "lamport1978"),
        ("kademlia xor metric", "maymounkov2002"),
        ("TCP congestion avoidance Jacobson", "jacobson1988"),
        ("quic internet scale deployment", "langley2017"),
        ("Elektrodynamik bewegter Korper", "einstein1905relativity"),
        ("gravitational waves black hole", "abbott2016"),
        ("google file system", "ghemawat2003"),
        ("new directions in cryptography", "diffie1976"),
        ("Schmidhuber", "hochreiter1997"),
        ("byzantine faults", "castro1999"),
    ],
)
def test_the_best_match_comes_first(query: str, key: str) -> None:
    best, score = Index(PAPERS).search(query, 5)[0]
    assert best.key == key
    assert score > 0


def test_scores_fall_and_the_limit_holds() -> None:
    hits = Index(PAPERS).search("learning networks", 7)
    scores = [score for _, score in hits]
    assert len(hits) == 7
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("query", ["", "the of and", "xyzzy plugh"])
def test_a_query_without_a_known_word_finds_nothing(query: str) -> None:
    assert Index(PAPERS).search(query, 5) == []


def test_an_empty_index_finds_nothing() -> None:
    assert Index([]).search("anything", 5) == []


def keys(question: dict[str, object]) -> list[str]:
    papers = answer(question)["papers"]
    assert isinstance(papers, list)
    return [paper["key"] for paper in papers]


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        (
            {"author": "Lamport", "limit": 9},
            ["lamport1978", "lamport1998", "lamport2001", "lamport2006"],
        ),
        ({"author": "Leslie Lamport", "year": 1978}, ["lamport1978"]),
        ({"author": "Einstein", "year": 1935}, ["einstein1935"]),
        ({"author": "hinton", "year": 2012}, ["krizhevsky2012"]),
        ({"author": "Reed, Irving"}, ["reed1960"]),
        ({"year": 1948}, ["shannon1948"]),
        ({"cite": "Attention Is All You Need"}, ["vaswani2017"]),
        ({"cite": "doi:10.1145/359545.359563"}, ["lamport1978"]),
        ({"cite": "https://doi.org/10.1109/CVPR.2016.90"}, ["he2016"]),
        ({"cite": "arXiv:1706.03762"}, ["vaswani2017"]),
        ({"cite": "HE2016"}, ["he2016"]),
    ],
)
def test_lookups(question: dict[str, object], expected: list[str]) -> None:
    assert keys(question) == expected


def test_the_annus_mirabilis() -> None:
    found = keys({"year": 1905, "limit": 10})
    assert len(found) == 4
    assert all(key.startswith("einstein1905") for key in found)


def test_a_citation_in_one_line() -> None:
    assert answer({"cite": "einstein1935"})["text"] == (
        "Einstein, Podolsky & Rosen (1935). Can Quantum-Mechanical Description of Physical Reality "
        "Be Considered Complete? Physical Review 47, 777-780. doi:10.1103/PhysRev.47.777"
    )


@pytest.mark.parametrize(
    ("key", "names"),
    [("turing1950", "Turing"), ("kingma2014adam", "Kingma & Ba"), ("vaswani2017", "Vaswani et al."),
     ("abbott2016", "Abbott et al.")],
)  # fmt: skip
def test_many_authors_become_et_al(key: str, names: str) -> None:
    (paper,) = (paper for paper in PAPERS if paper.key == key)
    assert cite(paper).startswith(f"{names} (")


def test_a_citation_as_bibtex() -> None:
    entry = answer({"cite": "vaswani2017", "style": "bibtex"})["text"]
    assert isinstance(entry, str)
    assert entry.startswith("@misc{vaswani2017,\n  title = {Attention Is All You Need},")
    assert "author = {Vaswani, Ashish and Shazeer, Noam and" in entry
    assert "eprint = {1706.03762}" in entry
    assert entry.endswith("\n}")


def test_more_hits_are_counted() -> None:
    assert str(answer({"author": "Lamport", "limit": 1})["text"]).endswith("(and 3 more)")


@pytest.mark.parametrize(
    ("question", "error"),
    [
        ({}, "ask for a 'query'"),
        ({"query": ""}, "needs a text in 'query'"),
        ({"query": 42}, "needs a text in 'query'"),
        ({"query": "xyzzy"}, "no paper matches 'xyzzy'; there are"),
        ({"query": "consensus", "limit": 0}, "a whole number from 1 to 20"),
        ({"query": "consensus", "limit": True}, "a whole number from 1 to 20"),
        ({"query": "consensus", "style": "vancouver"}, "no citation style 'vancouver'"),
        ({"author": "Nobody"}, "no paper is by Nobody"),
        ({"author": "Lamport", "year": 1900}, "no paper is by Lamport and is from 1900"),
        ({"year": "1978"}, "a whole number from 1 to 9999"),
        ({"cite": "10.1/unknown"}, "no paper has the key, DOI, arXiv number or title"),
        ("attention", "a question is a JSON object"),
    ],
)
def test_a_bad_question_is_answered_with_an_error(question: object, error: str) -> None:
    reply = reply_to(answer, question)
    assert reply["ok"] is False
    assert error in str(reply["error"])
