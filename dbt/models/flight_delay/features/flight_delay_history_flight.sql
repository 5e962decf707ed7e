{{ trailing_history('flight', ['carrier', 'flight', 'origin'], windows=(28,)) }}
