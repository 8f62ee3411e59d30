"""Which relations of PostgreSQL's own schemas a query may read.

Structure yes; passwords, other sessions' queries, settings, files and samples of column contents
(pg_statistic holds values of rows the role may not see) no.
"""

_PG_CATALOG = """
pg_aggregate pg_am pg_amop pg_amproc pg_attrdef pg_attribute pg_cast pg_class pg_collation
pg_constraint pg_conversion pg_depend pg_description pg_enum pg_extension pg_index pg_indexes
pg_inherits pg_language pg_matviews pg_namespace pg_opclass pg_operator pg_opfamily
pg_partitioned_table pg_policies pg_policy pg_range pg_rules pg_sequence pg_sequences
pg_statistic_ext pg_tables pg_timezone_abbrevs pg_timezone_names pg_trigger pg_ts_config pg_ts_dict
pg_type pg_views
"""

_INFORMATION_SCHEMA = """
applicable_roles attributes character_sets check_constraint_routine_usage check_constraints
collation_character_set_applicability collations column_column_usage column_domain_usage
column_privileges column_udt_usage columns constraint_column_usage constraint_table_usage
data_type_privileges domain_constraints domain_udt_usage domains element_types enabled_roles
information_schema_catalog_name key_column_usage parameters referential_constraints
role_column_grants role_table_grants routine_column_usage routine_table_usage routines schemata
sequences sql_features sql_implementation_info sql_sizing table_constraints
table_privileges tables triggers udt_privileges view_column_usage view_table_usage views
"""

PG_CATALOG = frozenset(_PG_CATALOG.split())
INFORMATION_SCHEMA = frozenset(_INFORMATION_SCHEMA.split())


def refusal(schema: str | None, name: str) -> str | None:
    """Why the relation may not be read; None if it may.

    PostgreSQL looks into pg_catalog before any other schema, and all its relations start with
    ``pg_``; extensions put views named like that (pg_stat_statements) into the users' schemas.
    """
    match schema:
        case "information_schema":
            if name in INFORMATION_SCHEMA:
                return None
        case "pg_catalog":
            if name in PG_CATALOG:
                return None
        case None:
            if not name.startswith("pg_") or name in PG_CATALOG:
                return None
        case _:
            if not schema.startswith("pg_") and not name.startswith("pg_"):
                return None
    full = name if schema is None else f"{schema}.{name}"
    return (
        f"{full} is not readable here: of the system's relations only those that describe tables, "
        "columns, keys and views are. Use describe_schema, information_schema.columns or pg_class."
    )
