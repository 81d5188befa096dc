"""Who teaches: the frozen base or an exponential moving average of the student."""
