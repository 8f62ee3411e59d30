"""Functions of MySQL and MariaDB a query may call: those that compute from their arguments.

Not here, and so refused: SLEEP, BENCHMARK, locks (GET_LOCK …), LOAD_FILE, sequences (NEXTVAL,
SETVAL, LASTVAL), LAST_INSERT_ID, waiting for replication, XML and other functions that read or
change something beside their arguments, and every function a database or plugin adds.
"""

MATHS = """
abs acos asin atan atan2 bit_count ceil ceiling conv cos cot crc32 crc32c degrees div exp floor
greatest least ln log log10 log2 mod oct bin hex pi pow power radians rand round sign sin sqrt tan
truncate
"""

STRINGS = """
ascii bit_length char char_length character_length chr concat concat_ws elt export_set field
find_in_set format format_bytes format_pico_time from_base64 insert instr lcase left length lengthb
locate lower lpad ltrim make_set mid natural_sort_key octet_length ord position quote
regexp_instr regexp_like regexp_replace regexp_substr repeat replace reverse right rpad rtrim
sformat soundex space strcmp substr substring substring_index to_base64 to_char trim ucase unhex
upper weight_string
"""

TIMES = """
add_months adddate addtime convert_tz curdate current_date current_time current_timestamp curtime
date date_add date_format date_sub datediff day dayname dayofmonth dayofweek dayofyear extract
from_days from_unixtime get_format hour last_day localtime localtimestamp makedate maketime
microsecond minute month monthname now period_add period_diff quarter sec_to_time second
str_to_date subdate subtime sysdate time time_format time_to_sec timediff timestamp timestampadd
timestampdiff to_days to_seconds unix_timestamp utc_date utc_time utc_timestamp week weekday
weekofyear year yearweek
"""

CHOICES = "case row coalesce decode decode_oracle if ifnull interval isnull nullif nvl nvl2"

AGGREGATES = """
any_value avg bit_and bit_or bit_xor count group_concat json_arrayagg json_objectagg max median min
percentile_cont percentile_disc std stddev stddev_pop stddev_samp string_agg sum var_pop var_samp
variance
"""

WINDOWS = """
cume_dist dense_rank first_value lag last_value lead nth_value ntile percent_rank rank row_number
"""

JSON = """
json_array json_array_append json_array_insert json_array_intersect json_compact json_contains
json_contains_path json_depth json_detailed json_equals json_exists json_extract json_insert
json_keys json_length json_loose json_merge json_merge_patch json_merge_preserve json_normalize
json_object json_object_filter_keys json_object_to_array json_overlaps json_pretty json_query
json_quote json_remove json_replace json_schema_valid json_search json_set json_storage_size
json_table json_type json_unquote json_valid json_value
"""

CONVERSIONS = "binary cast collation charset coercibility convert"

DIGESTS = "compress md5 random_bytes sha sha1 sha2 uncompress uncompressed_length"

NETWORKS = """
bin_to_uuid inet6_aton inet6_ntoa inet_aton inet_ntoa is_ipv4 is_ipv4_compat is_ipv4_mapped is_ipv6
is_uuid sys_guid uuid uuid_to_bin
"""

GEOMETRY = """
st_area st_asgeojson st_astext st_aswkt st_buffer st_centroid st_contains st_crosses st_difference
st_dimension st_disjoint st_distance st_distance_sphere st_envelope st_equals st_geomfromgeojson
st_geomfromtext st_geometrytype st_intersection st_intersects st_isclosed st_isempty st_isvalid
st_latitude st_length st_longitude st_numpoints st_overlaps st_pointfromtext st_pointn st_srid
st_startpoint st_endpoint st_touches st_transform st_union st_within st_x st_y point linestring
polygon
"""

STRUCTURE = """
connection_id current_role current_user database grouping found_rows schema session_user system_user
user version
"""


def _names(*groups: str) -> frozenset[str]:
    return frozenset(name for group in groups for name in group.split())


ALLOWED = _names(
    MATHS, STRINGS, TIMES, CHOICES, AGGREGATES, WINDOWS, JSON, CONVERSIONS, DIGESTS, NETWORKS,
    GEOMETRY, STRUCTURE,
)  # fmt: skip

# Not functions, and followed by a bracket all the same.
_WORDS = """
ALL AND ANY AS BETWEEN BIGINT BIT BY CHARACTER CHECK COLUMNS CROSS CUBE DATETIME DECIMAL
DISTINCT DISTINCTROW DOUBLE ELSE ESCAPE EXCEPT EXISTS FLOAT FOR FROM GROUP HAVING IN INDEX
INTEGER INT INTERSECT IS JOIN KEY LATERAL LIKE LIMIT MATERIALIZED MEMBER NCHAR NESTED NOT
NUMERIC OF OFFSET ON OR OVER PARTITION PATH REAL REGEXP RLIKE ROLLUP ROW SELECT SIGNED SOME
SOUNDS STRAIGHT_JOIN THEN UNION UNSIGNED USING VALUES VARBINARY VARCHAR WHEN WHERE WINDOW WITH
XOR DIV MOD MATCH AGAINST
"""
WORDS_BEFORE_BRACKETS = _names(_WORDS)

SUGGESTIONS = {
    "benchmark": "There is nothing to measure within a query.",
    "get_lock": "Nothing can be locked.",
    "last_insert_id": "Nothing was inserted.",
    "load_file": "The server's files are not read.",
    "nextval": "Sequences are not advanced.",
    "setval": "Sequences are not changed.",
    "sleep": "There is nothing to wait for within a query.",
}
