"""One file a kind of sensor. Sensors read what the engine has decided; they decide nothing themselves."""
