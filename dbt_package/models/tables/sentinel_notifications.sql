{{ sentinel.guard_table() }} {{ sentinel.prepare_table() }} {{ sentinel.empty_table() }}
