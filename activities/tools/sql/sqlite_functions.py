"""SQLite's functions a query may call: those that compute something from their arguments.

Not here: load_extension, fts3_tokenizer, edit, readfile, writefile, sqlite_compileoption_get and
whatever an extension adds. How long a result gets is bounded where the file is opened.
"""

_NAMES = """
-> ->> abs acos acosh asin asinh atan atan2 atanh avg bm25 ceil ceiling changes char coalesce concat
concat_ws cos cosh count cume_dist current_date current_time current_timestamp date datetime degrees
dense_rank exp first_value floor format glob group_concat hex highlight ifnull iif if instr json
json_array json_array_length json_error_position json_extract json_group_array json_group_object
json_insert json_object json_patch json_pretty json_quote json_remove json_replace json_set
json_type json_valid jsonb jsonb_array jsonb_extract jsonb_group_array jsonb_group_object
jsonb_insert jsonb_object jsonb_patch jsonb_remove jsonb_replace jsonb_set julianday lag last_value
lead length like likelihood likely ln log log10 log2 lower ltrim match max median min mod nth_value
ntile nullif octet_length percent_rank percentile percentile_cont percentile_disc pi pow power
printf quote radians random randomblob rank replace round row_number rtrim sign sin sinh snippet
soundex sqlite_version sqrt string_agg strftime substr substring subtype sum tan tanh time timediff
total trim trunc typeof unhex unicode unistr unixepoch unlikely upper zeroblob
"""

ALLOWED = frozenset(_NAMES.split())
