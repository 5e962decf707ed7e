{{ trailing_history('hour', ['origin', 'sched_hour']) }}
