{{ sentinel.guard_table() }} {{ sentinel.empty_table() }}
