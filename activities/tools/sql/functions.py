"""PostgreSQL's own functions a query may call: those that compute something from their arguments.

Not here, and so refused: whatever changes anything (sequences, settings, large objects, locks,
signals, statistics), sleeps, reads the server's files, tells about other sessions or settings, or
runs SQL given as a text (``query_to_xml``, ``ts_stat``, ``ts_rewrite``, ``database_to_xml`` …) or
input functions of types given as a text (``pg_input_is_valid``) or by a row
(``json_populate_record``: a domain's check may be the database's own code). A test compares the
list with the catalogue of a real server: every name exists in pg_catalog, and none is volatile but
`VOLATILE`.
"""

MATHS = """
abs acos acosd acosh asin asind asinh atan atan2 atan2d atand atanh cbrt ceil ceiling cos cosd cosh
cot cotd degrees div erf erfc exp factorial floor gamma gcd lcm lgamma ln log log10 min_scale mod pi
pow power radians random random_normal round scale sign sin sind sinh sqrt tan tand tanh trim_scale
trunc width_bucket
"""

STRINGS = """
ascii bit_count bit_length btrim casefold char_length character_length chr concat concat_ws convert
convert_from convert_to crc32 crc32c decode encode format get_bit get_byte initcap is_normalized
left length like_escape lower lpad ltrim md5 normalize octet_length overlay parse_ident position
quote_ident quote_literal quote_nullable regexp_count regexp_instr regexp_like regexp_match
regexp_matches regexp_replace regexp_split_to_array regexp_split_to_table regexp_substr repeat
replace reverse right rpad rtrim set_bit set_byte sha224 sha256 sha384 sha512 similar_escape
similar_to_escape split_part starts_with string_to_array string_to_table strpos substr substring
to_ascii to_bin to_hex to_oct translate unicode_assigned unistr upper
"""

TIMES = """
age clock_timestamp date_add date_bin date_part date_subtract date_trunc extract isfinite
justify_days justify_hours justify_interval make_date make_interval make_time make_timestamp
make_timestamptz now overlaps statement_timestamp timeofday timezone transaction_timestamp
to_char to_date to_number to_timestamp
"""

AGGREGATES = """
any_value array_agg avg bit_and bit_or bit_xor bool_and bool_or corr count covar_pop covar_samp
every json_agg json_agg_strict json_object_agg json_object_agg_strict json_object_agg_unique
json_object_agg_unique_strict jsonb_agg jsonb_agg_strict jsonb_object_agg jsonb_object_agg_strict
jsonb_object_agg_unique jsonb_object_agg_unique_strict max min mode percentile_cont percentile_disc
range_agg range_intersect_agg regr_avgx regr_avgy regr_count regr_intercept regr_r2 regr_slope
regr_sxx regr_sxy regr_syy stddev stddev_pop stddev_samp string_agg sum var_pop var_samp variance
xmlagg
"""

WINDOWS = """
cume_dist dense_rank first_value lag last_value lead nth_value ntile percent_rank rank row_number
"""

ARRAYS = """
array_append array_cat array_dims array_fill array_length array_lower array_ndims array_position
array_positions array_prepend array_remove array_replace array_reverse array_sample array_shuffle
array_sort array_to_string array_upper cardinality generate_series generate_subscripts trim_array
unnest
"""

JSON = """
array_to_json json_array_elements json_array_elements_text json_array_length json_build_array
json_build_object json_each json_each_text json_extract_path json_extract_path_text json_object
json_object_keys json_strip_nulls json_to_record json_to_recordset json_typeof jsonb_array_elements
jsonb_array_elements_text jsonb_array_length jsonb_build_array jsonb_build_object jsonb_each
jsonb_each_text jsonb_extract_path jsonb_extract_path_text jsonb_insert jsonb_object
jsonb_object_keys jsonb_path_exists jsonb_path_exists_tz jsonb_path_match jsonb_path_match_tz
jsonb_path_query jsonb_path_query_array jsonb_path_query_array_tz jsonb_path_query_first
jsonb_path_query_first_tz jsonb_path_query_tz jsonb_pretty jsonb_set jsonb_set_lax jsonb_strip_nulls
jsonb_to_record jsonb_to_recordset jsonb_typeof row_to_json to_json to_jsonb
"""

TEXT_SEARCH = """
array_to_tsvector json_to_tsvector jsonb_to_tsvector numnode phraseto_tsquery plainto_tsquery
querytree setweight strip to_tsquery to_tsvector ts_delete ts_filter ts_headline ts_lexize ts_rank
ts_rank_cd tsquery_phrase tsvector_to_array websearch_to_tsquery
"""

RANGES = """
datemultirange daterange int4multirange int4range int8multirange int8range isempty lower_inc
lower_inf multirange nummultirange numrange range_merge tsmultirange tsrange tstzmultirange
tstzrange upper_inc upper_inf
"""

GEOMETRY = """
area bound_box box center circle diagonal diameter height isclosed ishorizontal isopen isparallel
isperp isvertical line lseg npoints path pclose point polygon popen radius slope width
"""

NETWORKS = """
abbrev broadcast family host hostmask inet_merge inet_same_family macaddr8_set7bit masklen netmask
network set_masklen
"""

ENUMS_UUIDS_XML = """
enum_first enum_last enum_range gen_random_uuid num_nonnulls num_nulls uuid_extract_timestamp
uuid_extract_version uuidv4 uuidv7 xml_is_well_formed xml_is_well_formed_content
xml_is_well_formed_document xmlcomment xmlexists xmltext xpath xpath_exists
"""

# A type's name called like a function is a cast.
CASTS = """
bool bpchar date float4 float8 int2 int4 int8 interval numeric text time timestamp timestamptz
varchar
"""

# What a query may ask about the database's own structure; S33's policy is about relations.
STRUCTURE = """
col_description current_catalog current_database current_role current_schema current_schemas
current_user format_type has_any_column_privilege has_column_privilege has_schema_privilege
has_sequence_privilege has_table_privilege obj_description pg_client_encoding pg_collation_for
pg_column_size pg_encoding_to_char pg_get_constraintdef pg_get_expr pg_get_indexdef
pg_get_partkeydef pg_get_serial_sequence pg_get_userbyid pg_get_viewdef pg_indexes_size
pg_is_in_recovery pg_partition_ancestors pg_partition_root pg_partition_tree pg_relation_size
pg_size_bytes pg_size_pretty pg_table_is_visible pg_table_size pg_total_relation_size
pg_type_is_visible pg_typeof session_user system_user to_regclass to_regnamespace to_regtype version
"""

# Give another answer each time, change nothing.
VOLATILE_NAMES = """
array_sample array_shuffle clock_timestamp gen_random_uuid pg_indexes_size pg_is_in_recovery
pg_partition_ancestors pg_partition_tree pg_relation_size pg_table_size pg_total_relation_size
random random_normal timeofday uuidv4 uuidv7
"""


def _names(*groups: str) -> frozenset[str]:
    return frozenset(name for group in groups for name in group.split())


VOLATILE = _names(VOLATILE_NAMES)

ALLOWED = _names(
    MATHS, STRINGS, TIMES, AGGREGATES, WINDOWS, ARRAYS, JSON, TEXT_SEARCH, RANGES, GEOMETRY,
    NETWORKS, ENUMS_UUIDS_XML, CASTS, STRUCTURE,
)  # fmt: skip

SUGGESTIONS = {
    "current_setting": "Settings are not shown; SHOW is not available either.",
    "nextval": "Sequences are not advanced; SELECT last_value FROM the sequence reads it.",
    "pg_sleep": "There is nothing to wait for within a query.",
    "query_to_xml": "Write the query itself instead of passing it as a text.",
    "set_config": "Settings cannot be changed.",
}
