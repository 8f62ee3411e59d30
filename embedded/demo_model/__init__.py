"""The demo model: an OpenAI-compatible server that answers by script, so that no key is needed.

It is no language model and says so under every answer. It reads the schema it is given, turns a
handful of question forms into SQL and puts the result into words:

    server, completions   HTTP, streaming, the objects of the protocol
    script, transcript    what to do next, from the messages alone
    questions, clauses    question → plan
    schema, words         which table or column a word means
    sql, answers          plan → SQL, result → Markdown
"""
