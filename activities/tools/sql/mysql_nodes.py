"""The parts of a tree of `sqlglot` that a MySQL query may consist of, by the names of its classes.

A class that is not here is refused, so what a newer version adds is refused until somebody has
thought about it. Left out on purpose: Command, Into, Lock, Parameter, SessionParameter,
Placeholder, PropertyEQ (``:=``), NextValueFor, every DDL and DML.
"""

_NODES = """
Select SetOperation Union Except Intersect Values Tuple Subquery Paren CTE With From Join Where
Group Having Order Ordered Limit Offset Distinct Cube Rollup GroupingSets Lateral Star Alias
Aliases TableAlias Column Identifier Table Literal National HexString BitString Null Boolean
Introducer Var DataType DataTypeParam Interval IntervalSpan Cast Convert TryCast Collate Case
When And Or Xor Not Neg EQ NEQ NullSafeEQ NullSafeNEQ GT GTE LT LTE Is In Between Like Escape
RegexpLike SimilarTo Exists Any All Add Sub Mul Div IntDiv Mod BitwiseAnd BitwiseOr BitwiseXor
BitwiseNot BitwiseLeftShift BitwiseRightShift DPipe Binary JSONPath JSONPathRoot JSONPathKey
JSONPathSubscript JSONPathWildcard JSONPathRecursive JSONPathSelector JSONPathSlice JSONExtract
JSONExtractScalar JSONArrayContains JSONKeyValue JSONColumnDef JSONSchema JSONTable JSONValue
JSONExtractQuote OnCondition MatchAgainst Window WindowSpec WithinGroup IgnoreNulls RespectNulls
IndexTableHint WithTableHint Kwarg CharacterSet PartitionRange Partition Dot Connector Predicate
"""

NODES = frozenset(_NODES.split())

_FUNCTIONS = """
Abs Acos AddMonths AnyValue Ascii Asin Atan Atan2 Avg BitLength BitwiseAndAgg BitwiseCount
BitwiseOrAgg BitwiseXorAgg Ceil Chr Coalesce Collation Compress Concat ConcatWs ConvertTimezone
Cos Cot Count CumeDist CurrentDate CurrentRole CurrentSchema CurrentTime CurrentTimestamp
CurrentUser CurrentVersion Date DateAdd DateDiff DateSub Day DayOfMonth DayOfWeek DayOfYear
Dayname Decode DecodeCase Degrees DenseRank Elt Exp Extract FirstValue Floor FromBase64 Greatest
GroupConcat Grouping Hex Hour If JSONArray JSONArrayAgg JSONArrayAppend JSONArrayInsert JSONKeys
JSONObject JSONObjectAgg JSONRemove JSONSet JSONType Lag LastDay LastValue Lead Least Left
Length Ln Localtime Localtimestamp Log Lower MD5 Max Median Min Minute Month Monthname NthValue
Ntile Nullif NumberToStr Nvl2 Pad PercentRank PercentileCont PercentileDisc Pi Pow Quarter
Radians Rand Randn Rank RegexpInstr RegexpReplace RegexpSubstr Repeat Replace Reverse Right
Round RowNumber SHA SHA2 Second SessionUser Sign Sin Soundex Space Sqrt StDistance StddevPop
StddevSamp Stddev StrPosition StrToDate StrToTime StrToUnix Stuff Substring SubstringIndex Sum
Tan Time TimeFromParts TimeToStr TimeToUnix Timestamp TimestampAdd TimestampDiff ToBase64 ToChar
Trim Trunc TsOrDiToDi TsOrDsAdd TsOrDsDiff TsOrDsToDate TsOrDsToTimestamp Unhex UnixToTime Upper
UtcDate UtcTime UtcTimestamp Uuid Variance VariancePop Week WeekOfYear WeightString Year
"""

FUNCTIONS = frozenset(_FUNCTIONS.split())
