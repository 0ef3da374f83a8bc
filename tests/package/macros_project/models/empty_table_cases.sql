{{ sentinel.empty_table() }}
