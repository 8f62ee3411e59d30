async def test_smoke(maria_reader, maria):
    print(await maria.state())
    print(await maria_reader.query("SELECT * FROM orders LIMIT 2"))
    print(await maria_reader.query("SELECT * FROM kinds"))
    print(await maria_reader("describe_schema", datasource_id=str(maria_reader.sources[0].id)))
