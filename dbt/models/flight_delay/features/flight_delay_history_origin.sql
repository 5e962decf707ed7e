{{ trailing_history('origin', ['origin'], windows=(1, 7, 28)) }}
