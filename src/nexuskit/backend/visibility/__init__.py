"""Finding executions by what is known of them: Temporal's list filter, search attributes, and how both become SQL.

Pure: text and values in, SQL and its parameters out; `nexuskit.backend.store.listing` runs it on a reader thread.

    grammar            the filter's text → a tree of conditions
    subjects           what can be listed, and by which attributes; one `Subject` for each kind of execution
    conditions         the tree, checked against a subject → SQL
    plans              which index to walk, in which order
    search_attributes  custom attributes: their types, their payloads, their limits, the column they are found by

A second subject needs no second compiler. It is a table with the columns that `subjects.ORDER` names (`listing`,
`status`, `listed`, `start_time`, `id`), and a `Subject` that says how its attributes are called, typed and stored and
which of them have an index. Then, for a page of it:

    plan = plans.plan(request.query, subject, listing, namespace.search_attributes)
    page = await reader.run(lambda connection: listing.read_page(connection, plan, after, size, limits.LIST_WORK))

and `listing.count(connection, plan, work)` for a count, grouped if the filter says so.
"""
