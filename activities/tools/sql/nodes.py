"""The parts of PostgreSQL's grammar a query may use: node types, and the fields of each.

A node or field that is not here is refused, so what a newer grammar adds is refused until somebody
has thought about it. Left out on purpose: ``SelectStmt.intoClause`` and ``lockingClause``,
``ParamRef``, ``CurrentOfExpr``, ``SetToDefault``, ``MultiAssignRef`` and every statement that is
not a query.
"""

from collections.abc import Mapping

# `field` holds plain values, nodes or lists of them; `field:Type` holds one node of that type,
# written without its name around it.
_FIELDS = {
    # Statements
    "SelectStmt": "distinctClause targetList fromClause whereClause groupClause groupDistinct"
    " havingClause windowClause valuesLists sortClause limitOffset limitCount limitOption op all"
    " withClause:WithClause larg:SelectStmt rarg:SelectStmt",
    "ExplainStmt": "query options",
    "DefElem": "defname arg defaction location",
    "WithClause": "ctes recursive location",
    "CommonTableExpr": "ctename aliascolnames ctematerialized ctequery location"
    " search_clause:CTESearchClause cycle_clause:CTECycleClause",
    "CTESearchClause": "search_col_list search_breadth_first search_seq_column location",
    "CTECycleClause": "cycle_col_list cycle_mark_column cycle_mark_value cycle_mark_default"
    " cycle_path_column location",
    "ResTarget": "name indirection val location",
    "SortBy": "node sortby_dir sortby_nulls useOp location",
    "WindowDef": "name refname partitionClause orderClause frameOptions startOffset endOffset"
    " location",
    "GroupingSet": "kind content location",
    # Sources of rows
    "RangeVar": "schemaname relname inh relpersistence alias:Alias location",
    "RangeSubselect": "lateral subquery alias:Alias",
    "RangeFunction": "lateral ordinality is_rowsfrom functions alias:Alias coldeflist",
    "RangeTableSample": "relation method args repeatable location",
    "RangeTableFunc": "lateral docexpr rowexpr namespaces columns alias:Alias location",
    "RangeTableFuncCol": "colname typeName:TypeName for_ordinality is_not_null colexpr coldefexpr"
    " location",
    "JoinExpr": "jointype isNatural larg rarg usingClause join_using_alias:Alias quals alias:Alias",
    "Alias": "aliasname colnames",
    "ColumnDef": "colname typeName:TypeName is_local collClause:CollateClause location",
    # Expressions
    "A_Const": "isnull ival:Integer fval:Float boolval:Boolean sval:String bsval:BitString"
    " location",
    "A_Expr": "kind name lexpr rexpr location rexpr_list_start rexpr_list_end",
    "A_ArrayExpr": "elements location list_start list_end",
    "A_Indices": "is_slice lidx uidx",
    "A_Indirection": "arg indirection",
    "A_Star": "",
    "BoolExpr": "boolop args location",
    "BooleanTest": "arg booltesttype location",
    "CaseExpr": "arg args defresult location",
    "CaseWhen": "expr result location",
    "CoalesceExpr": "args location",
    "CollateClause": "arg collname location",
    "ColumnRef": "fields location",
    "FuncCall": "funcname args agg_order agg_filter agg_within_group agg_star agg_distinct"
    " func_variadic over:WindowDef funcformat location",
    "GroupingFunc": "args location",
    "MinMaxExpr": "op args location",
    "NamedArgExpr": "arg name argnumber location",
    "NullTest": "arg nulltesttype location",
    "RowExpr": "args colnames row_format location",
    "SQLValueFunction": "op typmod location",
    "SubLink": "subLinkType testexpr operName subselect location",
    "TypeCast": "arg typeName:TypeName location",
    "TypeName": "names setof typmods typemod arrayBounds location",
    "XmlExpr": "op name named_args arg_names args xmloption indent location",
    "XmlSerialize": "xmloption expr typeName:TypeName indent location",
    # JSON
    "JsonFormat": "format_type encoding location",
    "JsonReturning": "format:JsonFormat typid typmod",
    "JsonOutput": "typeName:TypeName returning:JsonReturning",
    "JsonValueExpr": "raw_expr formatted_expr format:JsonFormat",
    "JsonKeyValue": "key value:JsonValueExpr",
    "JsonObjectConstructor": "exprs output:JsonOutput absent_on_null unique location",
    "JsonArrayConstructor": "exprs output:JsonOutput absent_on_null location",
    "JsonArrayQueryConstructor": "query output:JsonOutput format:JsonFormat absent_on_null"
    " location",
    "JsonAggConstructor": "output:JsonOutput agg_filter agg_order over:WindowDef location",
    "JsonObjectAgg": "constructor:JsonAggConstructor arg:JsonKeyValue absent_on_null unique",
    "JsonArrayAgg": "constructor:JsonAggConstructor arg:JsonValueExpr absent_on_null",
    "JsonIsPredicate": "expr format:JsonFormat item_type unique_keys location",
    "JsonParseExpr": "expr:JsonValueExpr output:JsonOutput unique_keys location",
    "JsonScalarExpr": "expr output:JsonOutput location",
    "JsonSerializeExpr": "expr:JsonValueExpr output:JsonOutput location",
    "JsonFuncExpr": "op column_name context_item:JsonValueExpr pathspec passing output:JsonOutput"
    " on_empty:JsonBehavior on_error:JsonBehavior wrapper quotes location",
    "JsonBehavior": "btype expr coerce location",
    "JsonArgument": "val:JsonValueExpr name",
    "JsonTable": "context_item:JsonValueExpr pathspec:JsonTablePathSpec passing columns"
    " on_error:JsonBehavior alias:Alias lateral location",
    "JsonTableColumn": "coltype name typeName:TypeName pathspec:JsonTablePathSpec"
    " format:JsonFormat wrapper quotes columns on_empty:JsonBehavior on_error:JsonBehavior"
    " location",
    "JsonTablePathSpec": "string name name_location location",
    # Values
    "String": "sval",
    "Integer": "ival",
    "Float": "fval",
    "Boolean": "boolval",
    "BitString": "bsval",
    "List": "items",
}


def _read(fields: str) -> Mapping[str, str]:
    pairs = (field.partition(":") for field in fields.split())
    return {name: kind for name, _, kind in pairs}


NODES: Mapping[str, Mapping[str, str]] = {name: _read(fields) for name, fields in _FIELDS.items()}

STATEMENT_NAMES = {
    "InsertStmt": "INSERT",
    "UpdateStmt": "UPDATE",
    "DeleteStmt": "DELETE",
    "MergeStmt": "MERGE",
    "CopyStmt": "COPY",
    "DoStmt": "DO",
    "CallStmt": "CALL",
    "VariableSetStmt": "SET",
    "VariableShowStmt": "SHOW",
    "LockStmt": "LOCK",
    "TransactionStmt": "BEGIN, COMMIT and their like",
    "VacuumStmt": "VACUUM",
    "AlterSystemStmt": "ALTER SYSTEM",
    "CreateTableAsStmt": "CREATE TABLE AS",
    "TruncateStmt": "TRUNCATE",
    "DropStmt": "DROP",
    "PrepareStmt": "PREPARE",
    "ExecuteStmt": "EXECUTE",
    "DeclareCursorStmt": "DECLARE",
    "NotifyStmt": "NOTIFY",
    "ListenStmt": "LISTEN",
}
