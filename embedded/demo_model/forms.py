"""The forms of question the demo model knows, as patterns; the order decides."""

import re

from embedded.demo_model.clauses import COUNT_WORD

POLITE = re.compile(
    r"^(?:@\S+|hi|hello|hey|please|so|ok|okay|and|now|then|thanks|thank you"
    r"|(?:can|could|would|will) you|i(?:'d| would) like to (?:know|see)|i want to (?:know|see)"
    r"|tell me|let me know|do you know|calculate|compute|work out)[\s,:!.]+",
    re.IGNORECASE,
)
FUNCTIONS = {
    "avg": "average|mean|avg",
    "max": "maximum|max|highest|largest|greatest",
    "min": "minimum|min|lowest|smallest",
    "sum": "total|sum",
}
FUNCTION = "|".join(FUNCTIONS.values())
UP = r"most|highest|largest|greatest|biggest|longest|maximum|top"
DOWN = r"fewest|least|lowest|smallest|shortest|minimum|bottom"
ASK = r"(?:show(?: me| us)?|list|give (?:me|us)|name|find|get|display|fetch|print|return|view|see)"
THE = r"(?:the\s+|all\s+|our\s+)?"
OF_ALL = r"(?:of\s+)?(?:the\s+|all\s+)*"

FORMS: dict[str, re.Pattern[str]] = {
    name: re.compile(pattern, re.IGNORECASE | re.DOTALL)
    for name, pattern in {
        "tables": rf"^(?:{ASK}|what|which|describe)\s+(?:are\s+)?(?:all\s+|the\s+)*"
        r"(?:tables|(?:database\s+)?schema|databases?)\b.*$"
        r"|^what (?:kind of |sort of )?(?:data|information) .*$"
        r"|^what(?:'s| is) in (?:the|this|our|my) (?:database|data|datasource|project)\W*$"
        r"|^what (?:can|could|may) i ask.*$",
        "columns": r"^(?:describe|explain)\s+(?:the\s+)?(?:table\s+)?(?P<of>.+?)(?:\s+table)?\W*$"
        rf"|^(?:{ASK}|what|which)\s+(?:are\s+)?(?:all\s+|the\s+)*(?:columns|fields)\s+"
        r"(?:does|do|are in|of|in|has)\s+(?:the\s+)?(?P<has>.+?)(?:\s+(?:table|have|has))*\W*$",
        "common": rf"^(?:(?:{ASK}|what|which|who)\s+)?(?:(?:are|is|were|was)\s+)?{THE}"
        rf"(?:(?P<n>{COUNT_WORD})\s+)?(?:(?P<up>most)|(?P<down>least))\s+"
        r"(?:common|frequent|popular|used)\s+(?P<rest>.+)$",
        "most": rf"^(?:which|what|who|{ASK})\s+(?:(?:are|is|were|was)\s+)?{THE}"
        rf"(?:(?P<n>{COUNT_WORD})\s+)?(?P<entity>(?!(?:the|is|are|was|were)\b).+?)\s+(?:\w+\s+)??{THE}"
        rf"(?:(?P<up>{UP})|(?P<down>{DOWN}))\s+(?P<rest>.+)$",
        "top": rf"^(?:(?:{ASK}|what are|who are|which are)\s+)?{THE}"
        rf"(?:(?P<up>top)|(?P<down>bottom))\s+(?:(?P<n>{COUNT_WORD})\s+)?(?P<entity>.+?)\s+by\s+(?P<rest>.+)$",
        "figure": rf"^(?:(?:what(?:'s)?|{ASK})\s+)?(?:(?:is|was|are|were)\s+)?(?:the\s+)?"
        rf"(?!total (?:number|count) of)(?P<function>{FUNCTION})\s+{OF_ALL}(?P<rest>.+)$",
        "count": rf"\b(?:how many|(?:number|count) of|count)\s+{OF_ALL}(?P<rest>.+)$",
        "rows": rf"^{ASK}\s+(?P<all>(?:all|every)\b)?\s*{OF_ALL}(?:some\s+|any\s+|our\s+)?"
        r"(?:(?P<newest>last|latest|newest|most recent)|first|top)?\s*"
        rf"(?:\b(?P<n>{COUNT_WORD})\s+)?(?P<rest>.+)$",
        "exist": r"^(?:what|which)\s+(?:are the\s+)?(?P<rest>.+?)\s+(?:are there|do (?:we|you) have"
        r"|exist)\W*$",
        "grouped": r"^(?P<rest>\S+(?: \S+)? (?:per|by|for each|for every) .+)$",
    }.items()
}

SMALL_TALK = re.compile(r"(?:(?:how|who|what) are you|how do you do)\b", re.IGNORECASE)


def clean(text: str) -> str:
    """A question without greetings, politeness and its question mark."""
    text = " ".join(text.split()).replace("\u2019", "'")
    while POLITE.match(text):
        text = POLITE.sub("", text, count=1)
    return text.strip(" ?.!")


def function(word: str) -> str:
    """Name of the SQL function a word such as "average" asks for; empty for any other word."""
    for name, pattern in FUNCTIONS.items():
        if re.fullmatch(pattern, word, re.IGNORECASE):
            return name
    return ""


def recognise(text: str) -> tuple[str, dict[str, str | None]] | None:
    """Name and parts of the first form the question has."""
    text = clean(text)
    for name, form in FORMS.items():
        found = form.search(text)
        if found:
            return name, found.groupdict()
    return None


def is_question(text: str) -> bool:
    """Whether it is worth looking at the data at all."""
    if SMALL_TALK.match(clean(text)):
        return False
    starts = rf"(?:{ASK}|which|what|who|when|where|why|how|describe|count|compare|help)\b"
    begins = re.match(starts, clean(text), re.IGNORECASE)
    return bool(begins or recognise(text) or text.rstrip().endswith("?"))
