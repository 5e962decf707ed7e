{{ trailing_history('carrier', ['carrier', 'origin']) }}
