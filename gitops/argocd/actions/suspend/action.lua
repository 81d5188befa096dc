-- Stops the run's pods; trainers write a checkpoint first, and the claim stays.
obj.spec.suspend = true
return obj
