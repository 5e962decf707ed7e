{{ trailing_history('route', ['origin', 'dest']) }}
