"""The tail of a question, cut at its prepositions: what to group, filter and sort by."""

import re
from dataclasses import dataclass, field

from embedded.demo_model.words import NUMBERS

COUNT_WORD = rf"(?:\d[\d,]*|{'|'.join(NUMBERS)})"

# Said without asking for anything.
NOISE = re.compile(
    r"(?<!\w)(?:(?:rows|records|entries)(?: (?:are|were))?(?= (?:in|of|from)\b)"
    r"|(?:are|were|is|was) there|there (?:are|were|is|was)"
    r"|(?:do|did|does) (?:we|you|i|they) have|exist(?:s|ing)?|in total|in all|altogether|overall"
    r"|on record|please|right now|currently|(?:in|from|of) (?:the|this|our|my|your) (?:whole )?"
    r"(?:database|data|dataset|datasource|project|system))(?!\w)",
    re.IGNORECASE,
)
IS = r"(?:(?:is|are|was|were|be) )?"
MORE = r"(?:greater|more|larger|higher|longer|later|older|bigger|later)"
LESS = r"(?:less|fewer|lower|smaller|shorter|earlier|younger)"
COMPARISONS = [
    (
        re.compile(pattern if pattern[0] in "<>!=" else rf"\b(?:{pattern})(?!\w)", re.IGNORECASE),
        sign,
    )
    for pattern, sign in (
        (rf"{IS}between (?P<low>\S+) and (?P<high>\S+)", r" ⋯ \g<low>…\g<high> "),
        (rf"{IS}(?:{MORE} than or equal to|at least|no less than)", " ≥ "),
        (rf"{IS}(?:{LESS} than or equal to|at most|no more than|up to)", " ≤ "),
        (rf"{IS}(?:{MORE} than|over|above|exceed(?:s|ing)?|after)", " > "),
        (rf"{IS}(?:{LESS} than|under|below|before)", " < "),
        (r"(?:is|are|was|were) not(?: equal to)?|isn't|not equal to", " ≠ "),
        (r"contain(?:s|ing)|including|like", " ∋ "),
        (r"(?:start|begin)(?:s|ning|ing)? with", " ^ "),
        (r"(?:is|are|was|were) equal to|equal to|equals|is|are|was|were", " = "),
        (">=|≥", " ≥ "),
        ("<=|≤", " ≤ "),
        ("!=|<>", " ≠ "),
        ("==?", " = "),
    )
]
SIGN = re.compile("[=≠>≥<≤∋^⋯]")
MARKERS = re.compile(
    r"(?<![\w-])(?:(?P<group>(?:for|in|on|at|by|from|do|does|did) (?:each|every)(?: of the)?"
    r"|(?:grouped|group|split|broken down) by|per|by)"
    r"|(?P<order>(?:sorted|ordered|order|sort) by)"
    r"|(?P<filter>where|without|with|whose|having|(?:that|which) (?:have|has|had)|have|has|had"
    r"|from|to|in|on|at|for|of|during|across|among))(?![\w-])",
    re.IGNORECASE,
)
QUOTED = re.compile(r"\"([^\"]*)\"|'([^']*)'(?!\w)|“([^”]*)”|`([^`]*)`")
ARTICLES = re.compile(r"^(?:(?:the|a|an|all|any|our|my)\s+)+", re.IGNORECASE)


def bare(text: str) -> str:
    """A phrase without articles, surrounding punctuation and double spaces."""
    text = " ".join(text.split()).strip(" ,.;:?!")
    return ARTICLES.sub("", text).strip()


@dataclass(slots=True)
class Clauses:
    """A phrase in its parts; filters are (marker, text)."""

    subject: str
    groups: list[str] = field(default_factory=list)
    filters: list[tuple[str, str]] = field(default_factory=list)
    orders: list[str] = field(default_factory=list)
    quoted: list[str] = field(default_factory=list)

    def unquote(self, text: str) -> str:
        """Put back what stood in quotation marks."""
        for position, original in enumerate(self.quoted):
            text = text.replace(f"⟦{position}⟧", original)
        return text


def split(text: str) -> Clauses:
    """Cut a phrase such as "flights per carrier where origin is JFK and in May"."""
    quoted: list[str] = []

    def hide(found: re.Match[str]) -> str:
        quoted.append(next(group for group in found.groups() if group is not None))
        return f"⟦{len(quoted) - 1}⟧"

    text = NOISE.sub(" ", QUOTED.sub(hide, text))
    for pattern, sign in COMPARISONS:
        text = pattern.sub(sign, text)
    text = re.sub(r"\bof\s+(?=[≥≤><⋯])", "", text, flags=re.IGNORECASE)  # "a delay of over 60"
    marks = list(MARKERS.finditer(text))
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    subject = text[: marks[0].start()] if marks else text
    compared = SIGN.search(subject)  # "flights after 2013-12-25"
    clauses = Clauses("", quoted=quoted)
    clauses.subject = clauses.unquote(bare(subject[: compared.start()] if compared else subject))
    if compared:
        clauses.filters.append(("where", bare(subject[compared.start() :])))
    for mark, end in zip(marks, ends, strict=False):
        body = re.sub(r"(?:\s*,|\s+and)\s*$", "", text[mark.end() : end].rstrip(" ?.!"))
        if not bare(body):  # "how many flights did each airline have"
            continue
        if mark["group"]:
            clauses.groups.append(clauses.unquote(bare(body)))
        elif mark["order"]:
            clauses.orders.append(clauses.unquote(bare(body)))
        else:
            pieces = re.split(r"\s+and\s+|\s*,\s+", body)
            clauses.filters.extend((mark["filter"].lower(), bare(piece)) for piece in pieces)
    return clauses
