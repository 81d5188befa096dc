-- Lets the run go on from its newest checkpoints.
obj.spec.suspend = false
return obj
